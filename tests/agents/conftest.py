"""A vector env without a model: blank pictures, poses that go exactly where they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from worldenv.bodies.camera import Camera
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.envs import vector_env
from worldenv.envs.core import CoreConfig, EnvCore
from worldenv.envs.episodes import Episodes
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.geometry.pose import look
from worldenv.tasks.navigate import Navigate
from worldenv.world.starts import Starts


class BlankDynamics:
    """Dynamics with no world: every start is the origin, every frame is black."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.spec = num_envs, WorldSpec(width=8, height=8)
        self.c2w = torch.eye(4, dtype=torch.float64).repeat(num_envs, 1, 1)

    @property
    def present(self) -> dict[str, Tensor]:
        return {"c2w": self.c2w}

    def reset(self, *, seeds: Sequence[int], starts: Sequence[int | None], mask: Tensor | None = None) -> Chunk:
        rows = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        self.c2w[rows] = torch.eye(4, dtype=torch.float64)
        return Chunk(torch.zeros(self.num_envs, 1, 8, 8, 3, dtype=torch.uint8), {"c2w": self.c2w[:, None].clone()})

    def step(self, commands: Track, rows: Sequence[int] | None = None) -> Chunk:
        assert rows is None
        return self.follow(commands["c2w"])

    def follow(self, c2w: Tensor) -> Chunk:
        self.c2w = c2w[:, -1].clone()
        frames = torch.zeros(self.num_envs, self.spec.chunk_frames, 8, 8, 3, dtype=torch.uint8)
        return Chunk(frames, {"c2w": c2w})


def goals_around(count: int, *, nearest: float, farthest: float) -> Tensor:
    """Return goals in all directions of the origin, (count, 4, 4)."""
    angle = torch.arange(count, dtype=torch.float64) * 2.399963  # the golden angle spreads them
    distance = torch.linspace(nearest, farthest, count, dtype=torch.float64)
    position = torch.stack([distance * angle.sin(), 0 * angle, distance * angle.cos()], -1)
    return look(position, 0 * angle)


@pytest.fixture
def make_blank(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorldVectorEnv]:
    """Return a maker of Navigate vector envs over ``BlankDynamics``; obs are ``goal`` and ``c2w``."""

    def make(num_envs: int, *, goals: Tensor, action_mode: str = "basic", limit: int = 12, **kwargs: Any) -> Any:
        config = CoreConfig(
            action_mode=action_mode, obs_mode="dict", obs_keys=("goal", "c2w"), stack=1, max_episode_steps=limit
        )
        origin = torch.eye(4, dtype=torch.float64).expand(len(goals), 4, 4)
        blank = torch.zeros(len(goals), 8, 8, 3, dtype=torch.uint8)
        episodes = Episodes(Starts(blank, origin, goals, torch.arange(len(goals))))
        core = EnvCore(BlankDynamics(num_envs), Camera(), Navigate(), episodes, config)
        monkeypatch.setattr(vector_env, "make_core", lambda _: core)
        return WorldVectorEnv(num_envs, task="navigate", **kwargs)

    return make
