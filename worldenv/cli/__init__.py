"""The ``worldenv`` command."""

from .command import COMMANDS, main, usage

__all__ = ["COMMANDS", "main", "usage"]
