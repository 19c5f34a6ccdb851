"""Worlds: named parts on disk, what they are called and where they came from."""
