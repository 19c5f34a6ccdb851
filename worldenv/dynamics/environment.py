"""What a world was recorded from, where that was somebody's environment: how one acts in it, and how long.

Plain values, so that recordings and worlds carry them; bodies make spaces of them (``bodies.vector``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..base.config import Signed

UNBOUNDED = 3.4028234663852886e38
"""What stands for infinity in bounds: files hold finite numbers."""
MOST_NUMBERS = 2**14
"""That an action is embedded in, choices one by one; checked before anything so large is made."""


@dataclass(frozen=True, kw_only=True)
class ActionPart:
    """One space of an action, and how its numbers are embedded."""

    name: str = ""
    """Its key, where actions are a dictionary; empty where it is the whole action."""
    kind: Literal["discrete", "multi_discrete", "multi_binary", "box"]
    """Which of Gymnasium's spaces it is."""
    shape: tuple[int, ...] = ()
    """Of its array; () of ``discrete``."""
    counts: tuple[int, ...] = ()
    """Values of each number of ``discrete`` and ``multi_discrete``, in order; embedded one-hot."""
    least: Signed[tuple[int, ...]] = ()
    """The smallest value of each of these."""
    low: Signed[tuple[float, ...]] = ()
    """Bounds of each number of ``box``."""
    high: Signed[tuple[float, ...]] = ()
    """The same, above."""
    dtype: str = "int64"
    """Of its array."""
    mean: Signed[tuple[float, ...]] = ()
    """Of each number of ``box``, over the recording; empty is 0."""
    scale: tuple[float, ...] = ()
    """Standard deviation of each, over the recording; empty is 1."""

    def __post_init__(self) -> None:
        numbers, of = math.prod(self.shape), f"action {self.name!r}" if self.name else "the action"
        if min((*self.shape, *self.counts), default=1) < 1 or self.size > MOST_NUMBERS:
            sizes = f"shape {self.shape[:9]}, {str(self.counts)[:80]} choices"
            raise ValueError(f"{of} of {sizes}: from 1 to {MOST_NUMBERS} numbers embed one")
        given = {
            "counts": (self.counts, numbers if self.chosen else 0),
            "least": (self.least, numbers if self.chosen else 0),
            "low": (self.low, numbers if self.kind == "box" else 0),
            "high": (self.high, numbers if self.kind == "box" else 0),
            "mean": (self.mean, numbers if self.mean else 0),
            "scale": (self.scale, numbers if self.scale else 0),
        }
        for name, (values, wanted) in given.items():
            if len(values) != wanted:
                raise ValueError(f"{of}, {self.kind} of shape {self.shape}, has {len(values)} of {name}, not {wanted}")

    @property
    def chosen(self) -> bool:
        """Whether its numbers are choices."""
        return self.kind in ("discrete", "multi_discrete")

    @property
    def size(self) -> int:
        """Numbers that it is embedded in."""
        return sum(self.counts) if self.chosen else math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A recorded environment."""

    id: str = ""
    """Its id. A twin of it is made where that id is registered; nothing is imported for it."""
    actions: tuple[ActionPart, ...]
    """What one does in it, part by part."""
    max_episode_steps: int = 0
    """Its own steps, of a frame each, after which an episode is cut off; 0 is no limit."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.actions]
        if not names or len(set(names)) != len(names) or ("" in names and len(names) > 1):
            raise ValueError(f"actions: parts {names} are no action; name one '', or several differently")
