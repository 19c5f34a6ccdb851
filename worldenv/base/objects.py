"""What an argument names: something known, something given, or a class of someone else's.

Arguments alone may name a class by its module; names inside files resolve in registries, so that opening a world, a
recording or a state never imports code that it names.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def find_object(value: Any, known: Mapping[str, Any], *, what: str) -> Any:
    """Return what a name stands for: an entry of ``known``, or the class of ``package.module:Class``.

    What is no string is returned as it is.

    Raises:
        ValueError: on an unknown name, with the nearest known one, or a class that cannot be imported.
    """
    if not isinstance(value, str):
        return value
    if value in known:
        return known[value]
    if ":" in value:
        return import_object(value, what=what)
    choice = f"choose one of {', '.join(known)}, or package.module:Class"
    raise ValueError(f"unknown {what} {value!r}; {choice}{nearest(value, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what an error says of the known name that is nearest to a wrong one; nothing if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def look_here() -> None:
    """Let a command import what lies in the folder that it is run in, as ``python -m`` does, behind what is installed.

    Processes that it spawns inherit it.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def import_extra(module: str, *, extra: str, needs: str) -> Any:
    """Import a library that comes with an extra.

    Raises:
        ImportError: if it is not installed: what ``needs`` it, and which extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{needs}: pip install 'worldenv[{extra}]'") from error


def import_object(name: str, *, what: str) -> Any:
    """Import ``package.module:Class``.

    Raises:
        ValueError: if there is no such class.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {name!r}: {error}; pass package.module:Class") from None


def call_own(called: Callable[..., Any], *arguments: Any, what: str, **named: Any) -> Any:
    """Call a class or a function of someone else's. What it raises itself stays as it is.

    Raises:
        ValueError: if it cannot be called with these arguments.
    """
    try:
        return called(*arguments, **named)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:  # it was called
            raise
        name, given = (
            getattr(called, "__name__", type(called).__name__),
            [*(type(one).__name__ for one in arguments), *named],
        )
        raise ValueError(f"{what} {name} is called with {', '.join(given) or 'nothing'}, and cannot: {error}") from None
