"""A batch of ViZDoom worlds behind the ``Dynamics`` protocol: procedural mazes, or the 68 Freedoom maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...base.rng import draw_start
from ...dynamics.protocol import Chunk, check_rows, check_starts
from ...dynamics.signals import C2W, DEPTH, Signals
from ...dynamics.spec import WorldSpec, frame_path
from ..reopened import Reopened
from .maze import Maze, MazeConfig
from .presets import maze_config
from .row import FREEDOOM_MAPS, FreedoomRow, MazeRow, Row, View

TRAIN_SEEDS = range(900_000)
"""Maze seeds to learn from."""
TEST_SEEDS = range(900_000, 1_000_000)
"""Maze seeds held out for evaluation."""


class DoomDynamics(Reopened):
    """B independent engines, one per env; a row does not depend on the others.

    The map of an episode is ``map_seeds[k]`` with k drawn from the episode's seed; ``starts`` names the map
    itself instead: a maze seed (any, also outside ``map_seeds``), or an index into FREEDOOM_MAPS. The start
    pose always follows from the episode's seed. Freedoom maps have no exact geometry here: depth is None, and
    episodes begin at the player's start, turned by the seed. ``depth=False`` saves the ray-casting; with it mazes
    that hold objects have segmentation too.

    Mazes are those of ``spec.maze``, or of a ``config`` of their own.

    With ``start_c2w`` (one pose per entry of ``map_seeds``) episodes begin on fixed start views, and ``starts`` is an
    index into them: the twin of a generated world takes both from the world's own start views.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        spec: WorldSpec | None = None,
        maps: Literal["maze", "freedoom"] = "maze",
        map_seeds: Sequence[int] = TRAIN_SEEDS,
        config: MazeConfig | None = None,
        depth: bool = True,
        start_c2w: Tensor | None = None,  # (N, 4, 4)
    ) -> None:
        if start_c2w is not None and len(start_c2w) != len(map_seeds):
            raise ValueError(f"{len(start_c2w)} start poses for {len(map_seeds)} map seeds; pass one for each")
        if maps not in ("maze", "freedoom"):
            raise ValueError(f"maps={maps!r} is unknown; pass 'maze' or 'freedoom'")
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        self.num_envs, self.maps = num_envs, maps
        known = {"c2w": C2W, "depth": DEPTH} if depth and maps == "maze" else {"c2w": C2W}
        self.spec = replace(spec or WorldSpec(), gives=known)
        self.map_seeds = map_seeds if maps == "maze" else range(len(FREEDOOM_MAPS))
        self.start_c2w = start_c2w
        config = config or maze_config(self.spec.maze)
        self._rows: list[Row] = [
            MazeRow(self.spec, config, depth=depth) if maps == "maze" else FreedoomRow(self.spec)
            for _ in range(num_envs)
        ]

    @property
    def present(self) -> dict[str, Tensor]:
        """Where each env's camera is, and how far away lies what it sees, if that is known."""
        seen = [row.view().depth for row in self._rows] if "depth" in self.spec.gives else []
        return {"c2w": self.c2w, **({"depth": torch.cat([d for d in seen if d is not None]).float()} if seen else {})}

    @property
    def c2w(self) -> Tensor:
        """Current pose of each env, (B, 4, 4) float64."""
        return torch.stack([row.c2w for row in self._rows])

    @property
    def mazes(self) -> list[Maze | None]:
        """The maze of each env, None before its first reset and for Freedoom maps."""
        return [row.maze for row in self._rows]

    @property
    def texts(self) -> list[str]:
        """A description of each env's map."""
        return [row.text for row in self._rows]

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Load each env's map and place its camera; the class says what ``seeds`` and ``starts`` mean."""
        check_starts(seeds, starts, self.num_envs)
        chosen = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        rows = chosen.nonzero()[:, 0].tolist()
        maps = [self._map(seeds[row], starts[row]) for row in rows]  # all are checked before any row changes
        for row, (map_seed, c2w) in zip(rows, maps):
            self._rows[row].start(map_seed, np.random.default_rng(seeds[row]))
            if c2w is not None:
                self._rows[row].follow(c2w[None])
        return self.view()

    def _map(self, seed: int, start: int | None) -> tuple[int, Tensor | None]:
        """Return the map of an episode, and its start pose where that is fixed."""
        if self.start_c2w is not None:
            index = draw_start(len(self.map_seeds), seed, start)
            return self.map_seeds[index], self.start_c2w[index]
        if start is None:
            return self.map_seeds[draw_start(len(self.map_seeds), seed, None)], None
        if self.maps == "freedoom" and not 0 <= start < len(FREEDOOM_MAPS):
            raise ValueError(
                f"map {start} does not exist; pass 0..{len(FREEDOOM_MAPS) - 1}, an index into FREEDOOM_MAPS"
            )
        return start, None

    def step(self, commands: Signals, rows: Sequence[int] | None = None) -> Chunk:
        """Walk as commanded, with the engine's collisions; a latent's motion is spread over its frames."""
        walking = range(self.num_envs) if rows is None else rows
        check_rows(walking, self.num_envs)
        commanded = commands["c2w"].double()
        self._check(commanded, len(walking))
        return self._chunk([self._rows[row].step(c2w) for row, c2w in zip(walking, commanded, strict=True)])

    def view(self) -> Chunk:
        """Return the newest frame of each env alone, with pose and depth."""
        return self._chunk([row.view() for row in self._rows])

    def follow(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Chunk:
        """Teleport along the path; the height stays the engine's."""
        self._check(c2w, self.num_envs)
        paths = frame_path(self.c2w, c2w.double())
        return self._chunk([row.follow(path) for row, path in zip(self._rows, paths)])

    def close(self) -> None:
        """Stop all engines."""
        for row in self._rows:
            row.close()

    def _check(self, c2w: Tensor, num_rows: int) -> None:
        if c2w.ndim != 4 or c2w.shape[0] != num_rows or c2w.shape[2:] != (4, 4):
            raise ValueError(f"c2w has shape {tuple(c2w.shape)}; pass ({num_rows}, F, 4, 4)")

    def _chunk(self, views: list[View]) -> Chunk:
        frames, c2w, *more = zip(*views)
        known = [[part for part in parts if part is not None] for parts in more]
        seen = {name: torch.stack(parts) for name, parts in zip(("depth", "segmentation"), known) if parts}
        return Chunk(torch.stack(frames), {"c2w": torch.stack(c2w), **seen})
