"""Clips that episodes can begin from: the way from a goal to somewhere else, on held-out mazes.

Who begins with a clip remembers it: the goal, the way, and every wall on it were seen, so that a task that asks to go
back asks nothing that the world would have to invent. Who walks straight at the goal does not get there: walls are in
the way that one cannot slide around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors, load_tensors
from ..base.log import track
from ..dynamics.signals import Track
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ..geometry.action import camera_to_c2w
from ..geometry.contact import BODY
from ..geometry.path import FreeSpace, Walker, visit
from ..geometry.pose import is_rigid, look
from ..models.codec import Codec, to_pixels
from .starts import Starts

if TYPE_CHECKING:
    from ..sims.doom.sim import DoomDynamics

FIRST_SEED = 912_000
"""First of the held-out mazes that clips are on, each on its own; those with nothing to walk round are left out."""
NUM_LATENTS = 48
"""Latents of a clip behind its first frame."""
CLEARANCE = 0.65
"""Metres that the way keeps from walls."""
ARRIVED, PATIENCE = 0.5, 24.0
"""Metres from a goal at which one is there, and metres of walking after which one never is."""
WALK = (5.0, 11.0)
"""Metres of walking between a goal and the end of its clip."""
TRIES = 400


@dataclass(frozen=True)
class Clips:
    """Encoded clips, what each entry of them ends with, and a goal that each began at."""

    latents: Tensor  # (N, F, C, h, w) float16
    keys: Tensor  # (N, F, 2) int64
    c2w: Tensor  # (N, F, 4, 4) float64
    views: Tensor  # (N, E, H, W, 3) uint8: the start view, then the last frame of each chunk
    goals: Tensor  # (N, 4, 4) float64
    map_seeds: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def num_latents(self) -> int:
        """Latents of a clip, its first frame's among them."""
        return self.latents.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by the names in the file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def track(
        self,
        index: Tensor,  # (R,) int64
    ) -> Track:
        """Return what led to the latents of some clips, each (R, F, ...)."""
        return Track(keys=self.keys[index], c2w=self.c2w[index])

    @cached_property
    def starts(self) -> Starts:
        """Where episodes that begin with a clip begin: at its end."""
        return Starts(self.views[:, -1], self.c2w[:, -1], self.goals, self.map_seeds, self.views[:, 0])


def load_clips(path: Path, spec: WorldSpec, latent_shape: tuple[int, int, int]) -> Clips | None:
    """Read clips, or None if there is no such file.

    Raises:
        ValueError: if the file holds others than the world can begin with.
    """
    if not path.exists():
        return None
    tensors, _ = load_tensors(path)
    known: dict[str, Expected] = {
        "latents": (torch.float16, ("N", "F", *latent_shape)),
        "keys": (torch.int64, ("N", "F", 2)),
        "c2w": (torch.float64, ("N", "F", 4, 4)),
        "views": (torch.uint8, ("N", "E", spec.height, spec.width, 3)),
        "goals": (torch.float64, ("N", 4, 4)),
        "map_seeds": (torch.int64, ("N",)),
    }
    check_tensors(tensors, known, where=str(path))
    count, entries = tensors["latents"].shape[1], tensors["views"].shape[1]
    fits = len(tensors["latents"]) > 0 and count == 1 + (entries - 1) * spec.chunk_latents
    if not (fits and is_rigid(tensors["c2w"]) and is_rigid(tensors["goals"])):
        raise ValueError(f"{path} holds no clips of whole chunks with rigid poses; the file was edited")
    return Clips(**tensors)


@torch.no_grad()
def make_clips(vae: Codec, spec: WorldSpec, count: int) -> Clips:
    """Record ``count`` clips, each on its own maze, and encode them.

    Raises:
        ValueError: if most mazes have no way round anything.
    """
    from ..sims.doom.sim import DoomDynamics  # the simulator is an extra

    dynamics, rows = DoomDynamics(1, spec=spec, depth=False), []
    recorded = (found for seed in range(FIRST_SEED, FIRST_SEED + 4 * count) if (found := _record(dynamics, seed)))
    for seed, frames, c2w in track(islice(recorded, count), "clips", total=count):
        pixels = to_pixels(frames)[None].to(vae.latent_mean.device, vae.dtype)
        rows.append(
            {
                "latents": vae.encode(pixels)[0].half().cpu(),
                "keys": torch.cat([torch.zeros(1, 2, dtype=torch.long), spec.keys_along(c2w)]),
                "c2w": c2w,
                "views": frames[:: FRAMES_PER_LATENT * spec.chunk_latents],
                "goals": c2w[0],
                "map_seeds": torch.tensor(seed),
            }
        )
    dynamics.close()
    if len(rows) < count:
        raise ValueError(f"{len(rows)} of {4 * count} mazes have something to walk round, {count} were asked for")
    return Clips(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _record(dynamics: DoomDynamics, seed: int) -> tuple[int, Tensor, Tensor] | None:
    """Walk away from a goal on a maze; return its seed, frames (T, H, W, 3) and poses (F, 4, 4)."""
    opened = dynamics.reset(seeds=[seed], starts=[seed])
    maze = dynamics.mazes[0]
    assert maze is not None
    height, spec = float(opened.signals["c2w"][0, 0, 1, 3]), dynamics.spec
    planned = _away(FreeSpace(maze.free, 1.0), height, spec, np.random.default_rng([seed, 4]))
    if planned is None:
        return None
    start, camera = planned
    first = dynamics.follow(start[None, None])
    c2w = camera_to_c2w(torch.from_numpy(camera), start, spec.steps)
    shown = dynamics.follow(c2w[None])
    return seed, torch.cat([first.frames[0, -1:], shown.frames[0]]), torch.cat([start[None], c2w])


def _away(
    space: FreeSpace, height: float, spec: WorldSpec, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] | None:
    """Plan a way from a goal to where no straight line leads back, and a look around: pose and actions (F, 5)."""
    step = spec.steps.move
    for _ in range(TRIES):
        goal, end = (space.sample(rng, clearance=CLEARANCE) for _ in range(2))
        if not WALK[0] / 2 < math.dist(goal, end) < WALK[1] or leads_straight(space, end, goal, step):
            continue
        route = space.route(goal, end, clearance=CLEARANCE)
        if not WALK[0] <= len(route) * space.cell <= WALK[1]:
            continue
        yaw = math.atan2(route[min(2, len(route) - 1)][0] - goal[0], route[min(2, len(route) - 1)][1] - goal[1])
        walker = Walker(space, x=goal[0], z=goal[1], yaw=yaw, steps=spec.steps, clearance=CLEARANCE)
        visit(walker, route, NUM_LATENTS)
        if math.dist((walker.x, walker.z), end) > 1 or leads_straight(space, (walker.x, walker.z), goal, step):
            continue
        side = int(rng.choice([-1, 1]))
        while len(walker.actions) < NUM_LATENTS:
            walker.try_step(yaw=side)
        position = torch.tensor([goal[0], height, goal[1]], dtype=torch.float64)
        return look(position, torch.tensor(yaw).double()), np.stack(walker.actions)
    return None


def leads_straight(space: FreeSpace, here: tuple[float, float], goal: tuple[float, float], step: float) -> bool:
    """Tell whether who always walks towards a goal gets there, sliding along walls as a body does."""
    x, z = here
    for _ in range(math.ceil(PATIENCE / step)):
        away = math.dist((x, z), goal)
        if away < ARRIVED:
            return True
        dx, dz = (step * (b - a) / away for a, b in ((x, goal[0]), (z, goal[1])))
        before, (x, z) = (x, z), space.slide((x, z), (dx, dz), clearance=BODY)
        if (x, z) == before:
            return False
    return False
