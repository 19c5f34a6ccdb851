"""Where episodes begin and what they are to reach: as was asked, or by the number that also chooses the start view."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from ..base.rng import draw_start
from ..world.histories import Histories
from ..world.starts import Starts
from ..world.world import World


class Episodes:
    """Start poses and goals of episodes, by the index that also chooses the start view."""

    def __init__(self, starts: Starts | None) -> None:
        self.starts = starts

    def begin_at(self, seeds: Sequence[int], starts: Sequence[int | None]) -> dict[str, Tensor]:
        """Return the start pose of each env, (B, 4, 4): the origin in a world without start views."""
        return {"c2w": self._pick(None if self.starts is None else self.starts.c2w, seeds, starts)}

    def goal(self, seeds: Sequence[int], starts: Sequence[int | None]) -> dict[str, Tensor]:
        """Return the goal of each env: its pose ``c2w`` (B, 4, 4) and, where they were recorded, the ``image`` seen
        there (B, H, W, 3) and goal ``objects`` (B, O, 5); on a hand's table the ``target`` (B, 3); nothing where start
        views have no goals.
        """
        if self.starts is None:
            return {}
        known = {"target": self.starts.target}
        if self.starts.goals is not None:
            known |= {"c2w": self.starts.goals, "image": self.starts.goal_frames, "objects": self.starts.objects}
        return {name: self._pick(part, seeds, starts) for name, part in known.items() if part is not None}

    @property
    def has_targets(self) -> bool:
        """Whether start views are of a table, where goals lie."""
        return self.starts is not None and self.starts.target is not None

    @staticmethod
    def _pick(poses: Tensor | None, seeds: Sequence[int], starts: Sequence[int | None]) -> Tensor:
        if poses is None:
            return torch.eye(4, dtype=torch.float64).repeat(len(seeds), 1, 1)
        index = [draw_start(len(poses), s, i) for s, i in zip(seeds, starts, strict=True)]
        return poses[torch.tensor(index)]


def with_starts(
    world: World,
    begins: Histories | None,  # what episodes begin after; None: start views
    part: Sequence[int],  # the first, and the one behind the last
) -> tuple[World, Histories | None]:
    """Return the same world with some of what episodes can begin at.

    Raises:
        ValueError: if there are fewer.
    """
    known = world.require_starts() if begins is None else begins
    if part[1] > len(known):
        kind = "start views" if begins is None else "recorded histories"
        raise ValueError(f"starts={list(part)}, but world {world.config.name!r} has {len(known)} {kind}")
    index = torch.arange(*part)
    if begins is not None:
        return world, begins.at(index)
    other = copy(world)
    other.starts = world.require_starts().at(index)
    return other, None
