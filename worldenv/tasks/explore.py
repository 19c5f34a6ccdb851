"""See floor that was not seen before: the reward is its area, read off the newest view's depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from ..geometry.occupancy import WallsConfig, floor_shown
from .base import Defaults, Outcome, Start, TaskState

GRID = WallsConfig(cell=0.25, cells=256, reach=6.0)
"""Cells in which floor is counted, in a square around the start; as far as ``reach`` a view counts."""


@dataclass(frozen=True, kw_only=True)
class Explore:
    """See as much of the floor as possible; what the start view shows counts as seen."""

    defaults: ClassVar[Defaults] = Defaults(
        action_mode="basic5", max_episode_steps=32, reads=("c2w", "depth"), explains=("information_gain",)
    )
    shows: ClassVar[Mapping[str, Signal]] = {}

    area_scale: float = 10.0
    """Square metres that are worth 1."""
    enough: float = 100.0
    """Square metres beyond the start view's with which an episode ends, a success."""

    def reset(self, start: Start) -> TaskState:
        """Remember what the start view shows, and the camera."""
        if start.K is None:
            raise ValueError("task Explore measures floor by a camera, and this world has none")
        c2w, rows = start.present["c2w"], len(start.frames)
        state = {
            "seen": torch.zeros(rows, GRID.cells, GRID.cells, dtype=torch.bool),
            "middle": (c2w[:, [2, 0], 3] / GRID.cell).floor().long(),
            "area": torch.zeros(rows, dtype=torch.float64),
            "K": start.K.expand(rows, 3, 3).clone(),
        }
        return {**state, "seen": _with_view(state, start.present["depth"], c2w)}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Reward the floor that the newest view shows and no view of this episode has shown."""
        seen = _with_view(state, chunk.signals["depth"][:, -1], chunk.signals["c2w"][:, -1])
        new = (seen & ~state["seen"]).flatten(1).sum(1).double() * GRID.cell**2
        area = state["area"] + new
        done = area >= self.enough
        return Outcome(new / self.area_scale, done, done, {**state, "seen": seen, "area": area})

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show nothing beside the picture."""
        return {}


def _with_view(
    state: TaskState,
    depth: Tensor,  # (B, H, W)
    c2w: Tensor,  # (B, 4, 4)
) -> Tensor:
    """Return which cells have been seen, (B, cells, cells) bool; what lies beyond the grid is not counted."""
    place = floor_shown(depth, c2w, state["K"][0], GRID) - state["middle"][:, None] + GRID.cells // 2
    inside = ((place >= 0) & (place < GRID.cells)).all(-1)
    flat = torch.where(inside, place[..., 0] * GRID.cells + place[..., 1], GRID.cells**2)
    seen = torch.zeros(len(depth), GRID.cells**2 + 1, dtype=torch.bool).scatter_(1, flat, True)
    return state["seen"] | seen[:, :-1].view(state["seen"].shape)
