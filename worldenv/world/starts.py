"""Start views of a world: pictures, poses and goals on held-out mazes."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..base.log import track
from ..base.rng import derive_seed
from ..dynamics.spec import WorldSpec
from ..geometry.path import FreeSpace
from ..geometry.pose import look
from ..sims.doom.maze import EYE_HEIGHT
from ..sims.doom.sim import DoomDynamics
from .world import Starts

FIRST_SEED = 910_000
"""Held-out maze of start view 0; view i is on maze FIRST_SEED + i."""
CLEARANCE = 0.65
"""Metres that goals and the way to them keep from walls."""
GOAL_DISTANCE = (2.5, 7.0)
"""Metres of walking between a start and its goal."""


def make_starts(spec: WorldSpec, count: int) -> Starts:
    """Render ``count`` start views, each on its own maze, with a goal that can be walked to."""
    dynamics = DoomDynamics(1, spec=spec, depth=False)
    frames, poses, goals, seeds = [], [], [], []
    for seed in track(range(FIRST_SEED, FIRST_SEED + count), "start views", total=count):
        view = dynamics.reset(seeds=[derive_seed(seed, "start")], starts=[seed])
        maze = dynamics.mazes[0]
        assert maze is not None
        c2w = view.c2w[0, 0]
        frames.append(view.frames[0, 0])
        poses.append(c2w)
        goals.append(_goal(FreeSpace(maze.free, 1.0), c2w, np.random.default_rng([seed, 2])))
        seeds.append(seed)
    dynamics.close()
    return Starts(torch.stack(frames), torch.stack(poses), torch.stack(goals), torch.tensor(seeds))


def _goal(space: FreeSpace, c2w: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Draw a pose at a walking distance within GOAL_DISTANCE (the nearest miss if none is found)."""
    here = (float(c2w[0, 3]), float(c2w[2, 3]))
    best, error = here, math.inf
    for _ in range(200):
        point = space.sample(rng, clearance=CLEARANCE)
        route = space.route(here, point, clearance=CLEARANCE)
        if not route:
            continue
        walk = len(route) * space.cell
        miss = max(GOAL_DISTANCE[0] - walk, walk - GOAL_DISTANCE[1], 0.0)
        if miss < error:
            best, error = point, miss
        if error == 0:
            break
    position = torch.tensor([best[0], -EYE_HEIGHT, best[1]], dtype=torch.float64)
    return look(position, torch.tensor(float(rng.uniform(-math.pi, math.pi)), dtype=torch.float64))
