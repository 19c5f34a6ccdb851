"""Reach an object of the class that is named; the reward is the potential gained towards it, plus 1 on arrival."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dynamics.labels import CLASSES
from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from .base import Defaults, Outcome, Start, TaskState

VARIANTS = {"out_of_view": 0, "in_view": 1}
"""Which of a clip's objects each asks for."""


@dataclass(frozen=True, kw_only=True)
class ObjectNav:
    """Walk to an object that a recorded clip showed and face it; ``goal`` names its class, one out of ``CLASSES``."""

    defaults: ClassVar[Defaults] = Defaults(
        obs_mode="dict",
        obs_keys=("image", "goal"),
        action_mode="basic5",
        max_episode_steps=48,
        reads=("c2w",),
        from_clip=True,
    )
    shows: ClassVar[Mapping[str, Signal]] = {"goal": Signal(shape=(len(CLASSES),), low=0.0, high=1.0)}

    variant: Literal["out_of_view", "in_view"] = "out_of_view"
    """The object that the clip began in front of, and which has to be found again, or the one it ends in front of."""
    distance_scale: float = 4.0
    """Metres that are worth 1 of potential."""
    tolerance: float = 1.0
    """Metres from the object within which it is reached."""
    angle_tolerance_deg: float = 60.0
    """Degrees from the direction of its middle within which one faces it."""

    def reset(self, start: Start) -> TaskState:
        """Remember the object and the potential at the start."""
        if "objects" not in start.goal:
            raise ValueError("task ObjectNav asks for an object that was seen, and nobody recorded one here")
        one = start.goal["objects"][:, VARIANTS[self.variant]]
        distance, _ = self.apart(start.present["c2w"], one[:, 1:])
        goal = F.one_hot(one[:, 0].long(), len(CLASSES)).float()
        return {"goal": goal, "box": one[:, 1:].clone(), "potential": -distance / self.distance_scale}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Reward the potential gained since the last step; end in front of the object."""
        distance, angle = self.apart(chunk.signals["c2w"][:, -1], state["box"])
        reached = (distance < self.tolerance) & (angle <= math.radians(self.angle_tolerance_deg))
        return Outcome.by_potential(state, -distance / self.distance_scale, reached)

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Name the class."""
        return {"goal": state["goal"].clone()}

    @staticmethod
    def apart(
        c2w: Tensor,  # (B, 4, 4)
        box: Tensor,  # (B, 4) least x and z, largest x and z in metres
    ) -> tuple[Tensor, Tensor]:
        """Return metres to a footprint, and radians between the view and the direction of its middle, each (B,)."""
        here, low, high = c2w[:, [0, 2], 3], box[:, :2], box[:, 2:]
        distance = torch.maximum(low - here, here - high).clamp(min=0).norm(dim=-1)
        towards, ahead = (low + high) / 2 - here, c2w[:, [0, 2], 2]
        bearing = torch.atan2(*towards.unbind(-1)) - torch.atan2(*ahead.unbind(-1))
        return distance, torch.atan2(bearing.sin(), bearing.cos()).abs()
