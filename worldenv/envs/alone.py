"""Methods that one thread at a time may be in: what they change is one batch of episodes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stepped(Protocol):
    """What notes which thread is in it."""

    inside: dict[str, int]


S = TypeVar("S", bound=Stepped)


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Refuse to run a method while another thread is in this or another such method of the same object."""

    @functools.wraps(method)
    def checked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        own = threading.get_ident()
        there = self.inside.setdefault("thread", own)  # one operation: who comes first is in it
        if there != own:
            raise _refused(method, there)
        if "held" in self.inside:  # called by one of them
            return method(self, *args, **kwargs)
        self.inside["held"] = 1
        try:
            return method(self, *args, **kwargs)
        finally:
            self.inside.clear()

    return checked


def _refused(method: Callable[..., Any], there: int) -> RuntimeError:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return RuntimeError(
        f"{method.__name__}() while thread {names.get(there, there)!r} is stepping this environment: its episodes are "
        "one batch; make an environment for each thread (they share the world's weights), or more rows in one"
    )
