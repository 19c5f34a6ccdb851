"""Reach a goal pose; the reward is the potential gained (Ng et al. 1999), plus 1 on arrival."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from ..geometry.pose import invert_se3, rotation_angle, yaw_pitch
from .base import Defaults, Outcome, Start, TaskState

GOAL_BOUND = 1000.0
"""Metres, and radians, within which goals are shown."""


@dataclass(frozen=True, kw_only=True)
class Navigate:
    """Walk to a pose on the same map, seen as ``goal``: right, up, forward in metres and yaw in the camera frame."""

    defaults: ClassVar[Defaults] = Defaults(
        obs_mode="dict", obs_keys=("image", "goal"), max_episode_steps=64, reads=("c2w",), needs_goal=True
    )
    shows: ClassVar[Mapping[str, Signal]] = {"goal": Signal(shape=(4,), low=-GOAL_BOUND, high=GOAL_BOUND)}

    distance_scale: float = 4.0
    """Metres that are worth 1 of potential."""
    angle_weight: float = 0.25
    """Potential of facing away from the goal's direction, once there."""
    tolerance: float = 0.6
    """Metres within which the goal is reached."""
    angle_tolerance_deg: float = 180.0
    """Degrees within which it is; 180 does not ask for a direction."""

    def potential(
        self,
        c2w: Tensor,  # (B, 4, 4)
        goal: Tensor,  # (B, 4, 4)
    ) -> Tensor:
        """Return -(distance / scale + weight * angle / pi), (B,); the angle counts where one is asked for."""
        distance, angle = distance_and_angle(c2w, goal)
        weight = self.angle_weight if self.angle_tolerance_deg < 180 else 0.0
        return -(distance / self.distance_scale + weight * angle / math.pi)

    def reset(self, start: Start) -> TaskState:
        """Remember the goal and the potential at the start."""
        goal = start.goal["c2w"]
        return {"goal_c2w": goal.clone(), "potential": self.potential(start.present["c2w"], goal)}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Reward the potential gained since the last step; end at the goal."""
        c2w = chunk.signals["c2w"][:, -1]
        potential = self.potential(c2w, state["goal_c2w"])
        distance, angle = distance_and_angle(c2w, state["goal_c2w"])
        reached = (distance < self.tolerance) & (angle <= math.radians(self.angle_tolerance_deg) + 1e-9)
        return Outcome.by_potential(state, potential, reached)

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show the goal from where the agent is."""
        return {"goal": goal_vector(present["c2w"], state["goal_c2w"])}


def distance_and_angle(
    c2w: Tensor,  # (B, 4, 4)
    goal: Tensor,  # (B, 4, 4)
) -> tuple[Tensor, Tensor]:
    """Return metres and radians between two poses, each (B,)."""
    distance = (c2w[:, :3, 3] - goal[:, :3, 3]).norm(dim=-1)
    return distance, rotation_angle(c2w[:, :3, :3].mT @ goal[:, :3, :3])


def goal_vector(
    c2w: Tensor,  # (B, 4, 4)
    goal: Tensor,  # (B, 4, 4)
) -> Tensor:
    """Return the goal in the camera frame: right, up, forward (metres) and yaw (radians); (B, 4) float32."""
    relative = invert_se3(c2w) @ goal
    yaw, _ = yaw_pitch(relative)
    x, y, z = relative[:, :3, 3].unbind(-1)
    return torch.stack([x, -y, z, yaw], -1).float()
