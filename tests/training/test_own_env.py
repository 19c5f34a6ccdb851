"""Somebody's Gymnasium environment goes all the way: recorded, and a transformer trained on its actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldenv.data import record as recording
from worldenv.data.schema import write_shard
from worldenv.data.sources.gym import GymSource
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.memory.config import MemoryConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import train
from worldenv.training.stages.vae import VAELossConfig


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
    config = recording._as_shown(recording.RecordConfig(env="test/Dial-v0", clips=4, num_latents=8))
    source = recording.make_source(config)
    assert isinstance(source, GymSource)
    clips = [source.clip(i) for i in range(4)]
    attributes = {"config": recording.json.dumps(recording.to_dict(config)), "fps": 24}
    write_shard(tmp_path / "recording" / "shard-00000.h5", clips, attributes=attributes)
    return tmp_path / "recording"


def test_a_world_is_trained_on_what_it_does(recorded: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        data=recorded,
        num_starts=2,
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
        dit=DiTConfig(width=16, num_layers=1, num_heads=2, ffn_dim=32, freq_dim=16, patch=1),
        memory=MemoryConfig(policy="recent", temporal_latents=4),
        vae_loss=VAELossConfig(num_frames=9),
        denoise=DenoiseConfig(num_chunks=1, policies=(("recent", 1.0),)),
        optim=OptimConfig(steps=2, batch=2, preview_every=0, save_every=2, log_every=1),
    )
    assert config.spec == WorldSpec()  # nothing was said of it
    train("vae", config, tmp_path / "vae")
    world = train("causal", TrainConfig(**{**vars(config), "init": tmp_path / "vae"}), tmp_path / "causal")
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
            TrainConfig(**{**vars(config), "init": tmp_path / "causal", "denoise": DenoiseConfig()}),
            tmp_path / "memory",
        )
