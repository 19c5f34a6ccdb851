"""Worlds without imagination, to plan in beside a generated one: the last frame, whatever is done."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldenv.base.rng import draw_start
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.world.starts import Starts


class Copied:
    """Shows the last real frame and goes where it is told, through everything.

    With an engine that ``keeps`` what was really seen, one row an episode, motion ends at the walls that its memory
    knows: what memory alone tells, and nothing generated.
    """

    def __init__(self, num_envs: int, *, spec: WorldSpec, starts: Starts, keeps: Engine | None = None) -> None:
        self.num_envs, self.spec, self.keeps = num_envs, spec, keeps
        self.views, (_, self.places) = starts.frames, starts.require_maps()
        self.c2w = torch.eye(4, dtype=torch.float64).repeat(num_envs, 1, 1)
        self.frames = torch.zeros(num_envs, spec.height, spec.width, 3, dtype=torch.uint8)
        self.episode = torch.arange(num_envs)  # whose row a branch goes on from

    @property
    def present(self) -> dict[str, Tensor]:
        """Where each row's camera is meant to be."""
        return {"c2w": self.c2w}

    def reset(self, *, seeds: Sequence[int], starts: Sequence[int | None], mask: Tensor | None = None) -> Chunk:
        """Begin at start views."""
        rows = torch.arange(self.num_envs) if mask is None else mask.nonzero()[:, 0]
        if self.keeps is not None:
            count = self.keeps.num_envs
            some = None if mask is None else mask[:count]
            self.keeps.reset(seeds=seeds[:count], starts=starts[:count], mask=some)
        drawn = torch.tensor([draw_start(len(self.views), seeds[r], starts[r]) for r in rows.tolist()])
        self.c2w[rows], self.frames[rows] = self.places[drawn].double(), self.views[drawn]
        return Chunk(self.frames[:, None].clone(), {"c2w": self.c2w[:, None].clone()})

    def step(self, commands: Track, rows: Sequence[int] | None = None) -> Chunk:
        """Go where commanded, as far as memory knows of no wall."""
        index = torch.arange(self.num_envs) if rows is None else torch.tensor(list(rows))
        path = commands["c2w"]
        if self.keeps is not None and self.keeps.history.walls is not None:
            path = self.keeps.history.walls.slide(self.episode[index], self.c2w[index], path)
        self.c2w[index] = path[:, -1]
        return Chunk(self.frames[index, None].expand(-1, self.spec.chunk_frames, -1, -1, -1), {"c2w": path})

    def observe(self, frames: Tensor, commands: Track, rows: Sequence[int] | None = None) -> None:
        """Take in a real chunk."""
        index = torch.arange(self.num_envs) if rows is None else torch.tensor(list(rows))
        if self.keeps is not None:
            self.keeps.observe(frames, commands, rows)
        self.c2w[index], self.frames[index] = commands["c2w"][:, -1], frames[:, -1]

    def fork(self, source: Sequence[int], rows: Sequence[int]) -> None:
        """Let rows go on from other rows."""
        a, b = torch.tensor(list(source)), torch.tensor(list(rows))
        for part in (self.c2w, self.frames, self.episode):
            part[b] = part[a]
