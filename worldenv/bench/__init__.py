"""How fast: each file one ``worldenv bench`` command."""
