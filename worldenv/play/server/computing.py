"""The one thread in which a server computes worlds, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Computing:
    """Does one thing after another, in the order in which they were asked for.

    One at a time is fastest, and shared weights are never in two calls. Always the same thread, because libraries keep
    buffers of each that calls them for as long as it lives (MKL some 20 MB with the packaged world), and OpenMP a team.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "computing")

    def __call__(self, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what comes of something, or raise what it raises; what is computed may not ask for more itself."""
        return self._thread.submit(do, *args, **kwargs).result()
