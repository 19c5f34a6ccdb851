"""WorldPlay's tables with small models: what differs, trained and scored the same."""
