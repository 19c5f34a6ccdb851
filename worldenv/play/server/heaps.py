"""Memory that a process has freed and its C library keeps: glibc has a heap for every thread, and gives little back."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

M_ARENA_MAX = -8
"""Of mallopt(3)."""
HEAPS = 2


def share_heaps() -> None:
    """Let all threads of this process allocate from a few heaps."""
    mallopt = getattr(_library(), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, HEAPS)


def give_back() -> None:
    """Return what is free to the system, which takes some milliseconds."""
    trim = getattr(_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _library() -> Any:
    return ctypes.CDLL(None) if sys.platform == "linux" else None  # other C libraries have no such functions
