"""Start views of a world: pictures, poses and goals on held-out mazes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors, load_tensors
from ..base.log import track
from ..base.rng import derive_seed
from ..dynamics.spec import WorldSpec
from ..geometry.path import FreeSpace
from ..geometry.pose import is_rigid, look

FIRST_SEED = 910_000
"""Held-out maze of start view 0; view i is on maze FIRST_SEED + i."""
CLEARANCE = 0.65
"""Metres that goals and the way to them keep from walls."""
GOAL_DISTANCE = (2.5, 7.0)
"""Metres of walking between a start and its goal."""


@dataclass(frozen=True)
class Starts:
    """Start views that an episode can begin from, all on held-out maps."""

    frames: Tensor  # (N, H, W, 3) uint8
    c2w: Tensor | None = None  # (N, 4, 4) float64, in worlds with a camera
    goals: Tensor | None = None  # (N, 4, 4) float64: a reachable goal pose on the same map
    map_seeds: Tensor | None = None  # (N,) int64, of simulated maps
    goal_frames: Tensor | None = None  # (N, H, W, 3) uint8: what is seen at the goals, where that is known
    objects: Tensor | None = None  # (N, O, 5) float64: class and box of goal objects; see ``Clips.objects``
    joints: Tensor | None = None  # (N, J) float32, of worlds that joints command: where they were told to be
    target: Tensor | None = None  # (N, 3) float32: where tray or mark are on a hand's table, metres
    marked: Tensor | None = None  # (N,) bool: whether it is a mark
    tables: Tensor | None = None  # (N,) int64: seeds of the simulator's tables that they show, where that is known

    def at(self, index: Tensor) -> Starts:
        """Return some start views, by their numbers or a mask."""
        return Starts(**{name: part[index] for name, part in self.tensors().items()})

    def __len__(self) -> int:
        return len(self.frames)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is known, by the names in the file."""
        return {name: part for name, part in vars(self).items() if part is not None}

    def track(
        self,
        index: Tensor,  # (R,) int64
    ) -> dict[str, Tensor]:
        """Return signals of some start views, each (R, 1, ...)."""
        known = {"c2w": self.c2w, "joints": self.joints}
        return {name: part[index, None] for name, part in known.items() if part is not None}

    def require_maps(self) -> tuple[Tensor, Tensor]:
        """Return the maps' seeds (N,) and the start poses on them (N, 4, 4), or say that there are none."""
        if self.map_seeds is None or self.c2w is None:
            raise ValueError("these start views are on no simulated maps; there is no simulator twin of this world")
        return self.map_seeds, self.c2w

    def require_tables(self) -> list[int]:
        """Return the seeds of the simulator's tables, or say that they are not known."""
        if self.tables is None:
            raise ValueError(
                "nobody knows which of the simulator's tables these start views show; there is no simulator twin of "
                "this world: give it start views anew, with num_starts of `worldenv train vae`"
            )
        return self.tables.tolist()


def load_starts(path: Path, spec: WorldSpec) -> Starts | None:
    """Read start views, or None if there is no such file.

    Raises:
        ValueError: if the file holds none, or others than ``spec`` says.
    """
    if not path.exists():
        return None
    tensors, _ = load_tensors(path)
    known: dict[str, Expected] = {
        "frames": (torch.uint8, ("N", spec.height, spec.width, 3)),
        "c2w": (torch.float64, ("N", 4, 4)),
        "goals": (torch.float64, ("N", 4, 4)),
        "map_seeds": (torch.int64, ("N",)),
    }
    if "joints" in spec.takes:
        joints: Expected = (torch.float32, ("N", *spec.takes["joints"].shape))
        known |= {"joints": joints, "target": (torch.float32, ("N", 3)), "marked": (torch.bool, ("N",))}
        known |= {"tables": (torch.int64, ("N",))}
    always = {"frames", *(name for name in ("c2w", "joints") if name in spec.takes)}
    needed = {*always, *(known.keys() & tensors.keys())}
    if needed & {"goals", "map_seeds"}:  # of simulated maps, both
        needed |= {"c2w", "goals", "map_seeds"}
    check_tensors(tensors, {name: known[name] for name in known if name in needed}, where=str(path))
    for key in ("c2w", "goals"):
        if key in tensors and not is_rigid(tensors[key]):
            raise ValueError(f"{path}: {key} holds poses that are no rigid motions; the file was edited")
    if not len(tensors["frames"]):
        raise ValueError(f"{path} holds no start views; delete it, and the world has none")
    return Starts(**tensors)


def make_starts(spec: WorldSpec, count: int) -> Starts:
    """Render ``count`` start views, each on its own maze, with a goal that can be walked to."""
    from ..sims.doom.sim import DoomDynamics  # the simulator is an extra

    dynamics = DoomDynamics(1, spec=spec, depth=False)
    frames, poses, goals, seeds = [], [], [], []
    for seed in track(range(FIRST_SEED, FIRST_SEED + count), "start views", total=count):
        view = dynamics.reset(seeds=[derive_seed(seed, "start")], starts=[seed])
        maze = dynamics.mazes[0]
        assert maze is not None
        c2w = view.signals["c2w"][0, 0]
        frames.append(view.frames[0, 0])
        poses.append(c2w)
        goals.append(_goal(FreeSpace(maze.free, 1.0), c2w, np.random.default_rng([seed, 2])))
        seeds.append(seed)
    dynamics.close()
    return Starts(torch.stack(frames), torch.stack(poses), torch.stack(goals), torch.tensor(seeds))


def _goal(space: FreeSpace, c2w: Tensor, rng: np.random.Generator) -> Tensor:
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
    position = torch.tensor([best[0], float(c2w[1, 3]), best[1]], dtype=torch.float64)
    return look(position, torch.tensor(float(rng.uniform(-math.pi, math.pi)), dtype=torch.float64))
