"""Simulators as values: an engine cannot be copied, but what it was made with can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self


class Reopened:
    """Is pickled and copied by its arguments: a copy is another simulator, whose episodes begin with a reset."""

    _made_with: tuple[tuple[Any, ...], Mapping[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the arguments."""
        made = super().__new__(cls)
        made._made_with = args, kwargs
        return made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Say how to make another one."""
        args, kwargs = self._made_with
        return partial(type(self), **kwargs), args
