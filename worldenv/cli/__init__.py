"""The ``worldenv`` command."""

from .command import TREE, main

__all__ = ["TREE", "main"]
