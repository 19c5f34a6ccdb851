"""Clips that episodes can begin from: the way from one goal object to another, on held-out mazes.

Who begins with a clip remembers it: the goal, the way, and every wall on it were seen, so that a task that asks to go
back asks nothing that the world would have to invent. Who walks straight at the goal does not get there: walls are in
the way that one cannot slide around.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..base.checkpoint import Expected
from ..base.log import track
from ..dynamics.labels import CLASSES
from ..dynamics.signals import Track
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ..geometry.action import camera_to_c2w
from ..geometry.detour import plan_detour
from ..geometry.path import FreeSpace
from ..geometry.pose import is_rigid, look
from ..models.codec import Codec, to_pixels
from .histories import Histories, read_histories
from .starts import Starts

if TYPE_CHECKING:
    from ..sims.doom.maze import Maze
    from ..sims.doom.objects import GoalObject
    from ..sims.doom.sim import DoomDynamics

FIRST_SEED = 912_000
"""First of the held-out mazes that clips are on, each on its own; those with nothing to walk round are left out."""
NUM_LATENTS = 64
"""Latents of a clip behind its first frame."""
MOST_SEEDS = 4
"""Mazes that are looked at for each clip."""
SHOWN = 0.012
"""Share of a picture from which an object in it is seen."""


@dataclass(frozen=True)
class Clips(Histories):
    """Encoded clips on mazes, what each entry of them ends with, and a goal that each began at."""

    goals: Tensor  # (N, 4, 4) float64
    map_seeds: Tensor  # (N,) int64
    objects: Tensor  # (N, 2, 5) float64: class, least x and z, largest x and z of what each began and ends in front of

    @cached_property
    def starts(self) -> Starts:
        """Where episodes that begin with a clip begin: at its end."""
        return Starts(self.views[:, -1], self.c2w[:, -1], self.goals, self.map_seeds, self.views[:, 0], self.objects)


def load_clips(path: Path, spec: WorldSpec, latent_shape: tuple[int, int, int]) -> Clips | None:
    """Read clips, or None if there is no such file.

    Raises:
        ValueError: if the file holds others than the world can begin with.
    """
    more: dict[str, Expected] = {
        "goals": (torch.float64, ("N", 4, 4)),
        "map_seeds": (torch.int64, ("N",)),
        "objects": (torch.float64, ("N", 2, 5)),
    }
    found = read_histories(path, spec, latent_shape, more)
    if found is None:
        return None
    clips = Clips(**found)
    classes, boxes = clips.objects[..., 0], clips.objects[..., 1:]
    objects = bool(((classes >= 0) & (classes < len(CLASSES))).all() and (boxes[..., :2] < boxes[..., 2:]).all())
    if not (clips.shows_entries(spec.chunk_latents) and is_rigid(clips.goals) and objects):
        raise ValueError(f"{path} holds no clips with a view for each chunk, goals and objects; the file was edited")
    return clips


@torch.no_grad()
def make_clips(vae: Codec, spec: WorldSpec, count: int) -> Clips:
    """Record ``count`` clips, each on its own maze with many objects, and encode them.

    Raises:
        ValueError: if most mazes have no way round anything.
    """
    from ..sims.doom.presets import with_many  # the simulator is an extra
    from ..sims.doom.sim import DoomDynamics

    dynamics, rows = DoomDynamics(1, spec=replace(spec, maze=with_many(spec.maze)), depth=False), []
    seeds = range(FIRST_SEED, FIRST_SEED + MOST_SEEDS * count)
    recorded = (found for seed in seeds if (found := _record(dynamics, seed)))
    for seed, frames, c2w, objects in track(islice(recorded, count), "clips", total=count):
        pixels = to_pixels(frames)[None].to(vae.latent_mean.device, vae.dtype)
        rows.append(
            {
                "latents": vae.encode(pixels)[0].half().cpu(),
                "keys": torch.cat([torch.zeros(1, 2, dtype=torch.long), spec.keys_along(c2w)]),
                "c2w": c2w,
                "views": frames[:: FRAMES_PER_LATENT * spec.chunk_latents],
                "goals": c2w[0],
                "map_seeds": torch.tensor(seed),
                "objects": torch.tensor([(float(one.class_idx), *one.box) for one in objects], dtype=torch.float64),
            }
        )
    dynamics.close()
    if len(rows) < count:
        raise ValueError(f"{len(rows)} of {len(seeds)} mazes have something to walk round, {count} were asked for")
    whole = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return Clips(signals=Track({name: whole.pop(name) for name in ("keys", "c2w")}), **whole)


def _record(dynamics: DoomDynamics, seed: int) -> tuple[int, Tensor, Tensor, list[GoalObject]] | None:
    """Walk from one object of a maze to another.

    Returns:
        The maze's seed, frames (T, H, W, 3), poses (F, 4, 4) and both objects; None where there is no such walk.
    """
    opened, spec = dynamics.reset(seeds=[seed], starts=[seed]), dynamics.spec
    maze = dynamics.mazes[0]
    assert maze is not None
    found = plan_detour(
        FreeSpace(maze.free, 1.0),
        [one.centre for one in maze.objects],
        steps=spec.steps,
        num_latents=NUM_LATENTS,
        rng=np.random.default_rng([seed, 4]),
    )
    if found is None:
        return None
    place = torch.tensor([found.place[0], float(opened.signals["c2w"][0, 0, 1, 3]), found.place[1]]).double()
    start, ends = look(place, torch.tensor(found.yaw).double()), [maze.objects[i] for i in found.goals]
    c2w = torch.cat([start[None], camera_to_c2w(torch.from_numpy(found.actions), start, spec.steps)])
    if not _shown(maze, c2w[[0, -1]], spec, ends):
        return None
    first, shown = dynamics.follow(start[None, None]), dynamics.follow(c2w[None, 1:])
    return seed, torch.cat([first.frames[0, -1:], shown.frames[0]]), c2w, ends


def _shown(
    maze: Maze,
    c2w: Tensor,  # (2, 4, 4)
    spec: WorldSpec,
    objects: list[GoalObject],
) -> bool:
    """Tell whether each of two views shows its object, and the second one not the first one's."""
    from ..sims.doom.raycast import cast_classes  # the simulator is an extra

    _, classes = cast_classes(maze, c2w, spec.K, width=spec.width, height=spec.height)
    first, last = (1 + one.class_idx for one in objects)
    share = [float((classes[i] == label).float().mean()) for i, label in ((0, first), (1, last), (1, first))]
    return share[0] >= SHOWN and share[1] >= SHOWN and share[2] == 0
