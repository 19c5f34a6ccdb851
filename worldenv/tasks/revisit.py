"""Go away, come back, and see what was there: the reward is the likeness to the start view, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..base.psnr import psnr_of
from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from .base import Defaults, Outcome, Start, TaskState
from .navigate import distance_and_angle


@dataclass(frozen=True, kw_only=True)
class Revisit:
    """Leave the start by ``away`` metres or ``away_deg`` degrees, then return to it."""

    defaults: ClassVar[Defaults] = Defaults(max_episode_steps=32, reads=("c2w",))
    shows: ClassVar[Mapping[str, Signal]] = {}

    away: float = 1.5
    """Metres from the start that count as having left."""
    away_deg: float = 90.0
    """Degrees turned away that count as having left."""
    tolerance: float = 0.3
    """Metres within which the agent is back."""
    angle_tolerance_deg: float = 8.0
    """Degrees within which it looks the same way again."""

    def reset(self, start: Start) -> TaskState:
        """Remember the start view and pose."""
        left = torch.zeros(len(start.frames), dtype=torch.bool)
        return {"start_c2w": start.present["c2w"].clone(), "start_frame": start.frames.clone(), "left": left}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Reward the likeness of the newest frame to the start view when the agent is back; that ends the episode."""
        distance, angle = distance_and_angle(chunk.signals["c2w"][:, -1], state["start_c2w"])
        back = (distance <= self.tolerance) & (angle <= math.radians(self.angle_tolerance_deg))
        done = state["left"] & back
        reward = likeness(chunk.frames[:, -1], state["start_frame"]) * done
        return Outcome(reward, done, done, self.after(state, distance, angle))

    def after(
        self,
        state: TaskState,
        distance: Tensor,  # (B,) metres from the start
        angle: Tensor,  # (B,) radians
    ) -> TaskState:
        """Return the state after a chunk that ended there."""
        left = state["left"] | (distance >= self.away) | (angle >= math.radians(self.away_deg))
        return {**state, "left": left}

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show nothing beside the picture."""
        return {}


def likeness(
    a: Tensor,  # (B, H, W, 3) uint8
    b: Tensor,  # (B, H, W, 3) uint8
) -> Tensor:
    """Map PSNR linearly to [0, 1]: 10 dB, about what unrelated views have, is 0 and 30 dB is 1; (B,) float64."""
    mse = (a.double() - b.double()).square().flatten(1).mean(1) / 255**2
    return ((psnr_of(mse) - 10) / 20).clamp(0, 1)
