"""Somebody's Gymnasium environment goes all the way: recorded, and a transformer trained on its actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.small import record_here, small_plan
from worldenv.data.record import RecordConfig
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.registry import train


class Dial(gym.Env[Any, Any]):
    """A picture as bright as it is turned; actions are a dictionary."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 24}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.level = render_mode, 0.5
        self.action_space = gym.spaces.Dict({"by": gym.spaces.Box(-1.0, 1.0, (1,)), "stop": gym.spaces.Discrete(2)})
        self.observation_space = gym.spaces.Box(0.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.level = float(self.np_random.uniform())
        return np.array([self.level], np.float32), {}

    def step(self, action: Any) -> Any:
        self.level = float(np.clip(self.level + 0.05 * action["by"][0] * (1 - action["stop"]), 0, 1))
        return np.array([self.level], np.float32), 0.0, False, False, {}

    def render(self) -> Any:
        return np.full((16, 16, 3), round(255 * self.level), np.uint8)


gym.register("test/Dial-v0", entry_point=lambda **k: Dial(**k), disable_env_checker=True)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    record_here(RecordConfig(env="test/Dial-v0", clips=4, num_latents=8), tmp_path / "recording")
    return tmp_path / "recording"


def test_a_world_is_trained_on_what_it_does(recorded: Path, tmp_path: Path) -> None:
    config = small_plan(recorded, num_starts=2, denoise=DenoiseConfig(num_chunks=1, policies=(("recent", 1.0),)))
    assert config.spec == WorldSpec()  # nothing was said of it
    train("vae", config, tmp_path / "vae")
    world = train("causal", replace(config, init=tmp_path / "vae"), tmp_path / "causal")
    assert (world.spec.width, world.spec.height) == (16, 16)
    assert world.config.dit.codes == {"action": 3}
    assert world.starts is not None
    engine = Engine(world, 2, memory=world.config.memory)
    engine.reset(seeds=[0, 1], starts=[0, 1])
    chunk = engine.step(Track(action=torch.zeros(2, world.spec.chunk_latents, 3)))
    assert chunk.frames.shape == (2, 16, 16, 16, 3)
    with pytest.raises(ValueError, match="which asks where the camera was"):
        train(
            "memory",
            replace(config, init=tmp_path / "causal", denoise=DenoiseConfig()),
            tmp_path / "memory",
        )
