"""Reports: statistics, pictures, claims."""
