"""The page of commands: every command, what it does and its flags, from the tree that ``--help`` is made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from docstring_parser import parse

from worldenv.cli.command import TREE
from worldenv.cli.tree import Command, Group

OWN = {"config", "what"}
"""Parameters that stand for a file of settings and its fields."""


def commands_table() -> list[str]:
    """Return a row for every command: how it is called, what it does, its flags."""
    rows = (_row(words, node) for words, node in _leaves(("worldenv",), TREE))
    return ["| command | does | flags |", "|---|---|---|", *rows]


def _leaves(words: tuple[str, ...], node: Command | Group) -> Iterator[tuple[tuple[str, ...], Command]]:
    if isinstance(node, Command):
        yield words, node
        return
    for name, below in node.commands.items():
        yield from _leaves((*words, name), below)


def _row(words: tuple[str, ...], node: Command) -> str:
    function = getattr(node.run, "func", node.run)
    flags, given = [], getattr(node.run, "args", ())
    for name, parameter in list(inspect.signature(function).parameters.items())[len(given) :]:
        if name in OWN:
            flags += ["`--config F.toml` and its settings as flags"] if name == "config" else []
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            words = (*words, name.upper())
        else:
            needed = parameter.default is parameter.empty
            flags.append(f"`--{name.replace('_', '-')}`" + " (needed)" * needed)
    says = node.help or parse(function.__doc__ or "").short_description or ""
    return f"| `{' '.join(words)}` | {re.sub(r'[|]', '', says)} | {', '.join(flags)} |"
