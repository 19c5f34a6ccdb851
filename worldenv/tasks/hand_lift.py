"""Lift the object off the table; the reward is the potential gained, plus 1 when it is held up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import TaskState
from .manipulate import Manipulate


@dataclass(frozen=True, kw_only=True)
class HandLift(Manipulate):
    """Grasp the object and raise it, wherever: done when the hand holds it high enough."""

    height: float = 0.05
    """Metres above where it stood."""

    def goal(self, thing: Tensor, target: Tensor) -> Tensor:
        """Return the place above where it stands, (B, 3)."""
        return thing + torch.tensor([0.0, 0.0, self.height], dtype=thing.dtype)

    def done(self, state: TaskState, thing: Tensor, speed: Tensor, touched: Tensor) -> Tensor:
        """Return which objects are held up, (B,) bool."""
        return (thing[:, 2] > state["rest"] + self.height) & touched
