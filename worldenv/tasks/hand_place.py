"""Put the object onto the tray and let go; the reward is the potential gained, plus 1 when it lies there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .base import TaskState
from .manipulate import Manipulate, lies


@dataclass(frozen=True, kw_only=True)
class HandPlace(Manipulate):
    """Grasp the object, carry it to the tray, let go: done when it lies still on the tray, untouched."""

    within: float = 0.05
    """Metres between its centre and the tray's."""

    def done(self, state: TaskState, thing: Tensor, speed: Tensor, touched: Tensor) -> Tensor:
        """Return which objects lie on their trays, (B,) bool."""
        return lies(state, thing, speed, within=self.within) & ~touched
