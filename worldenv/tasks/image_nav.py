"""Find the place that a picture shows; the reward is the potential gained towards it, plus 1 on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..dynamics.signals import PICTURE, Signal, Signals
from .base import Defaults, Start, TaskState
from .navigate import Navigate


@dataclass(frozen=True, kw_only=True)
class ImageNav(Navigate):
    """Walk back to where a recorded clip began, of which a picture is shown, and look the same way."""

    defaults: ClassVar[Defaults] = replace(
        Navigate.defaults,
        obs_keys=("image", "goal_image"),
        action_mode="basic5",
        max_episode_steps=48,
        from_clip=True,
    )
    shows: ClassVar[Mapping[str, Signal]] = {"goal_image": PICTURE}

    angle_tolerance_deg: float = 60.0
    """Degrees within which the place is seen as in the picture."""

    def reset(self, start: Start) -> TaskState:
        """Remember the goal and what it looks like."""
        if "image" not in start.goal:
            raise ValueError("task ImageNav shows what is seen at the goal, and nobody recorded that here")
        return {**super().reset(start), "goal_image": start.goal["image"].clone()}

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show what is seen at the goal."""
        return {"goal_image": state["goal_image"].clone()}
