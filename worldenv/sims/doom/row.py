"""One env of a Doom batch: an engine, its map and the motion commands."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...geometry.pose import look, yaw_pitch
from .game import THRUST, DoomGame, Placement, freedoom_wad
from .generate import generate_maze
from .maze import EYE_HEIGHT, Array, Maze, MazeConfig, clearance, describe
from .pwad import UNITS, player_lumps, write_lumps, write_slot
from .raycast import cast_classes, cast_depth, cast_rays
from .scratch import Scratch

FREEDOOM_MAPS = (
    *((1, f"E{episode}M{mission}") for episode in range(1, 5) for mission in range(1, 10)),
    *((2, f"MAP{number:02d}") for number in range(1, 33)),
)
"""(WAD number, map name) of the maps in the ViZDoom wheel."""

START_CLEARANCE = 0.75
"""Metres between a start and the nearest obstacle."""
START_VIEW = 2.0
"""Metres that a start looks ahead at least."""
_START_TRIES = 256


class View(NamedTuple):
    """What one env shows."""

    frames: Tensor  # (T, H, W, 3) uint8
    c2w: Tensor  # (F, 4, 4)
    depth: Tensor | None  # (T, H, W)
    segmentation: Tensor | None  # (T, H, W) uint8


Shot = tuple[Placement, Array]
"""Where the camera was and the frame (H, W, 3) uint8 it took."""


class Row(abc.ABC):
    """One engine in a folder of its own; the engine starts with the first episode."""

    def __init__(self, spec: WorldSpec, *, depth: bool) -> None:
        self.spec, self.text, self._with_depth = spec, "", depth
        self.maze: Maze | None = None
        self._with_objects = False
        self._scratch = Scratch()
        self._engine: DoomGame | None = None
        self._last: View | None = None

    @abc.abstractmethod
    def start(self, index: int, rng: np.random.Generator) -> None:
        """Begin an episode on the map with this index; everything random comes from ``rng``."""

    @property
    def _pwad(self) -> Path:
        return self._scratch.path / "map.wad"

    @property
    def game(self) -> DoomGame:
        """The engine.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._engine is None:
            raise RuntimeError("this env has no map yet; call reset first")
        return self._engine

    @property
    def c2w(self) -> Tensor:
        """Current pose, (4, 4) float64."""
        return to_c2w([self.game.placement])[0]

    def view(self) -> View:
        """Return the last frame alone."""
        assert self._last is not None
        frames, c2w, *more = self._last
        return View(frames[-1:], c2w[-1:], *(None if part is None else part[-1:] for part in more))

    def step(
        self,
        commanded: Tensor,  # (F, 4, 4)
    ) -> View:
        """Walk one chunk: each latent's commanded motion, from wherever the last one really ended."""
        shots: list[Shot] = []
        before, owed = self.game.placement, (0.0, 0.0)
        for after in to_placements(commanded):
            owed = self._walk(before, after, owed, shots)
            before = after
        return self._finish(shots)

    def follow(
        self,
        path: Tensor,  # (T, 4, 4)
    ) -> View:
        """Teleport to the pose of each frame."""
        shots = []
        for place in to_placements(path):
            self.game.teleport(place)
            shots.append((self.game.placement, self.game.frame()))
        return self._finish(shots)

    def close(self) -> None:
        """Stop the engine and remove the folder."""
        if self._engine is not None:
            self._engine.close()
        self._scratch.close()
        self._engine = None

    def _walk(
        self, before: Placement, after: Placement, owed: tuple[float, float], shots: list[Shot]
    ) -> tuple[float, float]:
        """Push the player through one latent, tic by tic; append the shots, return the motion still owed."""
        limit = math.radians(self.spec.steps.pitch_limit_deg)
        turn = math.remainder(after.yaw - before.yaw, 2 * math.pi)
        start = self.game.placement
        for tic in range(1, FRAMES_PER_LATENT + 1):
            part = tic / FRAMES_PER_LATENT
            pitch = before.pitch + (after.pitch - before.pitch) * part
            here = self.game.placement
            aim_x = here.x + (after.x - before.x) / FRAMES_PER_LATENT + owed[0]
            aim_z = here.z + (after.z - before.z) / FRAMES_PER_LATENT + owed[1]
            pitch = min(max(pitch, -limit), limit)
            self.game.move(Placement(aim_x, here.y, aim_z, start.yaw + part * turn, pitch))
            here = self.game.placement
            shots.append((here, self.game.frame()))
            # The engine moves in steps of THRUST: carry the rounding over, but not what a wall has stopped.
            owed = aim_x - here.x, aim_z - here.z
            if math.hypot(*owed) > THRUST / UNITS:
                owed = 0.0, 0.0
        return owed

    def _finish(self, shots: list[Shot]) -> View:
        c2w = to_c2w([place for place, _ in shots])
        ends = c2w[FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT] if len(shots) > 1 else c2w
        self._last = View(torch.from_numpy(np.stack([frame for _, frame in shots])), ends, *self._geometry(c2w))
        return self._last

    def _geometry(self, c2w: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return depth, and segmentation where mazes hold objects."""
        if self.maze is None or not self._with_depth:
            return None, None
        size = {"width": self.spec.width, "height": self.spec.height}
        if self._with_objects:
            return cast_classes(self.maze, c2w, self.spec.K, **size)
        return cast_depth(self.maze, c2w, self.spec.K, **size), None


class MazeRow(Row):
    """An env on procedural mazes: the map file is rewritten under the running engine."""

    def __init__(self, spec: WorldSpec, config: MazeConfig, *, depth: bool = True) -> None:
        super().__init__(spec, depth=depth)
        self._config = config
        self._with_objects = config.objects[1] > 0

    def start(self, index: int, rng: np.random.Generator) -> None:
        """Begin an episode in the maze with seed ``index``."""
        self.maze = generate_maze(index, self._config)
        self.text = describe(self.maze)
        write_slot(self._pwad, self.maze)
        if self._engine is None:
            self._engine = DoomGame(self.spec, wad=freedoom_wad(2), pwad=self._pwad)
        self._engine.load_map("MAP01")
        self.follow(draw_start(self.maze, rng)[None])


class FreedoomRow(Row):
    """An env on the maps of Freedoom 1 and 2."""

    def __init__(self, spec: WorldSpec) -> None:
        super().__init__(spec, depth=False)
        write_lumps(self._pwad, player_lumps())
        self._wad = 0

    def start(self, index: int, rng: np.random.Generator) -> None:
        """Begin an episode on ``FREEDOOM_MAPS[index]``."""
        if not 0 <= index < len(FREEDOOM_MAPS):
            raise ValueError(f"Freedoom map {index} does not exist; pass 0..{len(FREEDOOM_MAPS) - 1}")
        wad, name = FREEDOOM_MAPS[index]
        if self._wad != wad:
            if self._engine is not None:
                self._engine.close()
            self._engine = DoomGame(self.spec, wad=freedoom_wad(wad), pwad=self._pwad)
            self._wad = wad
        self.game.load_map(name)
        self.text = f"Freedoom {wad}, {name}"
        self.game.move(self.game.placement._replace(yaw=rng.uniform(-math.pi, math.pi)))
        self._finish([(self.game.placement, self.game.frame())])


def draw_start(maze: Maze, rng: np.random.Generator) -> Tensor:
    """Draw a pose on free ground, clear of walls and with a view ahead; level, (4, 4) float64."""
    tiles = np.argwhere(maze.free)
    points = (tiles[rng.integers(len(tiles), size=_START_TRIES)] + rng.random((_START_TRIES, 2)))[:, ::-1]
    yaw = rng.uniform(-math.pi, math.pi, _START_TRIES)
    origins = np.stack([points[:, 0], np.full(_START_TRIES, -EYE_HEIGHT), points[:, 1]], 1)
    ahead = cast_rays(maze, origins, np.stack([np.sin(yaw), np.zeros_like(yaw), np.cos(yaw)], 1))
    good = (clearance(maze, points) >= START_CLEARANCE) & (ahead >= START_VIEW)
    best = int(np.argmax(good)) if good.any() else int(np.argmax(ahead))
    return look(torch.from_numpy(origins[best]), torch.tensor(yaw[best]))


def to_placements(
    c2w: Tensor,  # (T, 4, 4)
) -> list[Placement]:
    """Read poses as plain numbers; roll is lost."""
    numbers = torch.cat([c2w[:, :3, 3], torch.stack(yaw_pitch(c2w), -1)], -1)
    return [Placement(*row) for row in numbers.tolist()]


def to_c2w(places: Sequence[Placement]) -> Tensor:
    """Build the poses (T, 4, 4) float64."""
    numbers = torch.tensor(places, dtype=torch.float64)
    return look(numbers[:, :3], numbers[:, 3], numbers[:, 4])
