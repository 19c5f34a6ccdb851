"""Recording the ViZDoom simulators: planned paths by teleport, and a share of keys driven into walls."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Literal

import numpy as np
import torch

from ...base.rng import derive_seed
from ...dynamics.protocol import Chunk
from ...dynamics.spec import WorldSpec
from ...geometry.action import camera_to_c2w
from ...geometry.path import FreeSpace
from ...geometry.pose import look
from ...sims.doom.distance import GoalDistances
from ...sims.doom.maze import EYE_HEIGHT
from ...sims.doom.row import FREEDOOM_MAPS
from ...sims.doom.sim import DoomDynamics
from ..schema import Clip
from ..trajectories import Plan, TrajectoryConfig, plan_clip, random_keys


class SimSource:
    """Clip i is map ``first_seed + i`` with the path that (seed, map seed) gives."""

    def __init__(
        self,
        maps: Literal["maze", "freedoom"],
        spec: WorldSpec,
        trajectories: TrajectoryConfig,
        num_latents: int,
        first_seed: int,
        *,
        depth: bool,
    ) -> None:
        self.maps, self.spec, self.trajectories = maps, spec, trajectories
        self.num_latents, self.first_seed, self.depth = num_latents, first_seed, depth
        self.dynamics = DoomDynamics(1, spec=spec, maps=maps, depth=depth)

    def clip(self, index: int) -> Clip:
        """Record one clip."""
        map_seed = self.first_seed + index
        rng = np.random.default_rng([self.trajectories.seed, map_seed])
        start_map = map_seed if self.maps == "maze" else map_seed % len(FREEDOOM_MAPS)
        self.dynamics.reset(seeds=[derive_seed(map_seed, "start")], starts=[start_map])
        maze = self.dynamics.mazes[0]
        if maze is None:
            plan = Plan("acted", self.spec.steps, (0, 0, 0), random_keys(self.num_latents, rng), acted=True)
        else:
            plan = plan_clip(
                FreeSpace(maze.free, 1.0),
                self.spec.steps,
                self.trajectories,
                self.num_latents,
                rng,
                goals=[one.centre for one in maze.objects],
            )
            x, z, yaw = plan.start
            pose = look(torch.tensor([x, -EYE_HEIGHT, z], dtype=torch.float64), torch.tensor(yaw, dtype=torch.float64))
            self.dynamics.follow(pose[None, None])
        first = self.dynamics.view()
        start = first.signals["c2w"][0, 0]
        camera = torch.from_numpy(plan.camera)
        commanded = camera_to_c2w(camera, start, plan.steps)
        keys = replace(self.spec, steps=plan.steps).keys_along(torch.cat([start[None], commanded]))
        if plan.acted:
            chunk = self.dynamics.step({"keys": keys[None], "c2w": commanded[None]})
        else:
            chunk = self.dynamics.follow(commanded[None])
        return self._clip(plan, map_seed, first, chunk, commanded, keys)

    def close(self) -> None:
        """Stop the engine."""
        self.dynamics.close()

    def _clip(
        self, plan: Plan, map_seed: int, first: Chunk, chunk: Chunk, commanded: torch.Tensor, keys: torch.Tensor
    ) -> Clip:
        none, num, maze = torch.zeros(1, 2, dtype=torch.long), self.num_latents + 1, self.dynamics.mazes[0]
        before, c2w = first.signals["c2w"][0], torch.cat([first.signals["c2w"][0], chunk.signals["c2w"][0]]).numpy()
        objects = maze.objects if maze is not None else ()
        signals = {
            "K": self.spec.K.float().numpy(),
            "c2w": c2w,
            "c2w_commanded": torch.cat([before, commanded]).numpy(),
            "keys": torch.cat([none, keys]).numpy(),
            "camera": np.concatenate([np.zeros((1, 5)), plan.camera]).astype(np.float32),
            "reward": np.zeros(num, np.float32),
            "terminated": np.zeros(num, bool),
            "truncated": np.zeros(num, bool),
        }
        for name, kind in (("depth", torch.float16), ("segmentation", torch.uint8)):
            if name in first.signals and name in chunk.signals:
                whole = torch.cat([first.signals[name][0], chunk.signals[name][0]])
                signals[name] = whole.to(kind).numpy()
        if maze is not None and objects:
            signals["distances"] = GoalDistances(maze).at(c2w[:, [0, 2], 3])
        return Clip(
            torch.cat([first.frames[0], chunk.frames[0]]).numpy(),
            signals,
            attributes={
                "kind": plan.kind,
                "map_seed": map_seed,
                "seed": self.trajectories.seed,
                "text": self.dynamics.texts[0],
                "move": plan.steps.move,
                "turn_deg": plan.steps.turn_deg,
                "objects": json.dumps([asdict(one) for one in objects]),
            },
        )
