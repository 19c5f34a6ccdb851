"""A tree of commands: groups by name, and functions, whose parameters are flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Union

import tyro

from ..base.objects import nearest


@dataclass(frozen=True)
class Command:
    """A leaf of the tree."""

    run: Callable[..., None]
    help: str | None = None
    """What it does, in a line; by default the function's docstring."""


@dataclass(frozen=True)
class Group:
    """Commands under one name."""

    help: str
    commands: Mapping[str, Command | Group]
    default: str = ""
    """The command that is meant where none is named; by default one must be."""
    what: str = "command"
    """What an error calls one of them."""

    @property
    def run(self) -> Any:
        """The union of subcommands that tyro reads; it looks into one of them only when that is chosen."""
        arms = [
            Annotated[
                Any,
                tyro.conf.subcommand(
                    name, constructor=node.run, description=node.help, is_default=name == self.default
                ),
            ]
            for name, node in self.commands.items()
        ]
        return Union[(*arms, Annotated[None, tyro.conf.Suppress])]  # a union of one would be none

    def choose(self, words: Sequence[str]) -> Group:
        """Leave out all but the command that the words name, as mistakes in its flags make tyro read every other one.

        Raises:
            ValueError: on an unknown name, with the nearest known one.
        """
        if not words or words[0].startswith("-"):
            return self
        name = words[0]
        if name not in self.commands:
            known = f"choose one of {', '.join(self.commands)}{nearest(name, self.commands)}"
            raise ValueError(f"unknown {self.what} {name!r}; {known}")
        node = self.commands[name]
        return replace(self, commands={name: node.choose(words[1:]) if isinstance(node, Group) else node})
