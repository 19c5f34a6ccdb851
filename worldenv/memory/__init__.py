"""Persistent context memory: bank -> retrieval -> context, read by one interface for every policy."""
