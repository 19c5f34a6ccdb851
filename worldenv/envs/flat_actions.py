"""Actions that are a dictionary, as one array: what libraries of algorithms take."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ..bodies.vector import describe_actions

Array = npt.NDArray[Any]


class FlatActions:
    """A ``Dict`` of actions as a ``MultiDiscrete`` if all of it is chosen, else as a ``Box`` of numbers in -1..1.

    In the latter what is bounded is scaled to its bounds, and of choices each value has a number, the largest of which
    is chosen.

    Raises:
        ValueError: if a part cannot be embedded in a fixed number of numbers.
    """

    def __init__(self, space: spaces.Dict) -> None:
        self.parts = describe_actions(space)
        self.chosen = all(part.kind != "box" for part in self.parts)
        self.space: spaces.Space[Any]
        if self.chosen:
            self.space = spaces.MultiDiscrete(
                [count for part in self.parts for count in part.counts or (2,) * part.size]
            )
        else:
            self.space = spaces.Box(-1.0, 1.0, (sum(part.size for part in self.parts),), np.float32)

    def restore(
        self,
        actions: Array,  # (B, N) of the flat space
    ) -> dict[str, Array]:
        """Return the dictionary of actions that arrays stand for, each (B, ...)."""
        made, first = {}, 0
        for part in self.parts:
            size = (len(part.counts) or part.size) if self.chosen else part.size
            some, first = actions[:, first : first + size], first + size
            if part.kind == "box":
                low, high = np.asarray(part.low), np.asarray(part.high)
                bounded = high - low < 1e6
                some = np.where(bounded, low + (some + 1) / 2 * np.where(bounded, high - low, 0), some)
                some = np.clip(some, low, high)
            elif not self.chosen:
                ends = np.cumsum(part.counts)[:-1]
                some = np.stack([one.argmax(1) for one in np.split(some, ends, axis=1)], 1) if part.counts else some > 0
            if part.counts:
                some = some + np.array(part.least)
            made[part.name] = some.reshape(len(actions), *part.shape).astype(part.dtype)
        return made
