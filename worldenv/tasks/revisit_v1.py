"""Be led away, find back, and see what was there: the reward is the likeness to the first view, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..base.rng import derive_seed
from ..bodies.camera import press
from ..dynamics.signals import Signals, Track
from ..dynamics.spec import WorldSpec
from ..geometry.action import BASIC_KEYS
from . import revisit
from .base import Defaults, Start, TaskState

FORWARD, RIGHT, LEFT = 0, 2, 3
"""Of ``BASIC_KEYS``."""


@dataclass(frozen=True, kw_only=True)
class Revisit(revisit.Revisit):
    """Return to where the episode began, at the end of a recorded clip.

    At first the keys are not the agent's: it is led away, by turns and for a time that differ from episode to episode
    and that only the pictures tell. What its own actions would have been then counts for nothing.
    """

    defaults: ClassVar[Defaults] = replace(
        revisit.Revisit.defaults, action_mode="basic5", max_episode_steps=40, from_clip=True
    )

    least: tuple[int, int] = (3, 7)
    """Chunks for which it is led at least, from the first number to the second."""
    most: int = 12
    """Chunks after which it is let go wherever it has got to; before that it must have left by ``away``."""

    def __post_init__(self) -> None:
        low, high = self.least
        if not 1 <= low <= high <= self.most:
            raise ValueError(f"least={self.least}, most={self.most}: pass 1 <= least[0] <= least[1] <= most")

    def reset(self, start: Start) -> TaskState:
        """Remember the first view and pose, and draw the way that leads away."""
        if len(start.seeds) != len(start.frames):
            raise ValueError(f"task Revisit draws a way by seeds, and got {len(start.seeds)} of {len(start.frames)}")
        drawn = [self._draw(np.random.default_rng(derive_seed(seed, "led"))) for seed in start.seeds]
        nobody = torch.zeros(len(start.frames), dtype=torch.bool)
        return {
            **super().reset(start),
            "way": torch.tensor([way for way, _ in drawn]),
            "least": torch.tensor([least for _, least in drawn]),
            "led": nobody.long(),
            "gone": nobody,
            "free": nobody.clone(),
        }

    def _draw(self, rng: np.random.Generator) -> tuple[list[int], int]:
        """Draw ``most`` chunks, turns to a side and then straight ahead, over and over; and how many count at least."""
        way: list[int] = []
        while len(way) < self.most:
            way += [int(rng.choice([RIGHT, LEFT]))] * int(rng.integers(1, 4)) + [FORWARD] * int(rng.integers(1, 4))
        return way[: self.most], int(rng.integers(self.least[0], self.least[1] + 1))

    def command(self, state: TaskState, commanded: Track, present: Signals, spec: WorldSpec) -> Track:
        """Lead those away that are not let go yet."""
        chosen = state["way"].gather(1, state["led"].clamp(max=self.most - 1)[:, None])[:, 0]
        keys = torch.tensor(BASIC_KEYS)[chosen][:, None].expand(-1, spec.chunk_latents, -1)
        return commanded.where(state["free"], Track(commanded | press(keys, present["c2w"], spec.steps)))

    def after(
        self,
        state: TaskState,
        distance: Tensor,  # (B,)
        angle: Tensor,  # (B,)
    ) -> TaskState:
        """Count the chunks of those who are led; let them go who have been led for long enough and have left."""
        led, gone = state["led"] + (~state["free"]).long(), state["gone"] | (distance >= self.away)
        free = state["free"] | (gone & (led >= state["least"])) | (led >= self.most)
        return {**state, "led": led, "gone": gone, "free": free, "left": gone & free}
