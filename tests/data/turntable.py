"""An environment that recordings are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from worldenv.data.record import RecordConfig
from worldenv.data.schema import Clip, read_shard, shard_paths


class Turntable(gym.Env[Any, Any]):
    """A picture whose brightness counts the steps; ends after 10, with a pose in its info if asked."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 24}  # noqa: RUF012
    size = (16, 24)

    def __init__(self, render_mode: str | None = None, *, poses: bool = True) -> None:
        self.render_mode, self.poses = render_mode, poses
        self.action_space, self.observation_space = gym.spaces.Discrete(3), gym.spaces.Box(0, 255, (1,))
        self.count, self.offset = 0, 0

    def _info(self) -> dict[str, Any]:
        c2w = np.eye(4)
        c2w[2, 3] = self.count
        return {"c2w": c2w, "K": np.eye(3)} if self.poses else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count, self.offset = 0, int(self.np_random.integers(100))
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.zeros(1, np.float32), 1.0, self.count >= 10, False, self._info()

    def render(self) -> Any:
        return np.full((*self.size, 3), self.offset + self.count, np.uint8)


gym.register("test/Turntable-v0", entry_point=lambda **k: Turntable(**k), order_enforce=False, disable_env_checker=True)
gym.register(
    "test/TurntableBlind-v0",
    entry_point=lambda **k: Turntable(poses=False, **k),
    order_enforce=False,
    disable_env_checker=True,
)


def clips_of(folder: Path) -> list[Clip]:
    return [clip for path in shard_paths(folder) for clip in read_shard(path)]


GYM = RecordConfig(env="test/Turntable-v0", clips=5, num_latents=4, clips_per_shard=2, first_seed=20)
