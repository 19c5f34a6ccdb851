"""Flow matching: noise levels and samplers, independent of any network."""
