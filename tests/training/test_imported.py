"""Robots' recordings go all the way: imported, a world trained on them, stepped as an environment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from tests.data.foreign import write_lerobot
from worldenv import World
from worldenv.base.config import to_dict
from worldenv.data import record as recording
from worldenv.data.imported import ImportedSource
from worldenv.data.lerobot_writer import write_lerobot as write_lerobot_set
from worldenv.data.schema import write_shard
from worldenv.data.sources.lerobot import LeRobot
from worldenv.dynamics.spec import WorldSpec
from worldenv.memory.config import MemoryConfig
from worldenv.models.heads import EventConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.play.generated import generated
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.events import EventsConfig
from worldenv.training.stages.registry import train
from worldenv.training.stages.vae import VAELossConfig


def test_a_lerobot_data_set_without_rewards_becomes_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldenv.training.loop.trainer.plot_losses", lambda log, path: None)
    actions = write_lerobot(tmp_path / "pusher", [48] * 5, rewards=False)
    asked = recording.RecordConfig(
        env=f"lerobot:{tmp_path / 'pusher'}", num_latents=16, size=(16, 16), spec=WorldSpec(frames_per_latent=1)
    )
    config = recording._as_shown(replace(asked, spec=replace(asked.spec, chunk_latents=2)))
    source = recording.make_source(config)
    assert isinstance(source, ImportedSource)
    assert config.spec.environment is not None
    assert config.clips == source.num_clips == 11  # the last episode is held out
    clips = [source.clip(i) for i in range(source.num_clips)]
    (tmp_path / "recording").mkdir()
    write_shard(
        tmp_path / "recording" / "shard-00000.h5", clips, attributes={"config": json.dumps(to_dict(config)), "fps": 10}
    )
    plan = TrainConfig(
        name="pusher",
        data=tmp_path / "recording",
        num_starts=4,
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
        dit=DiTConfig(width=16, num_layers=1, num_heads=2, ffn_dim=32, freq_dim=16, patch=1),
        memory=MemoryConfig(policy="recent", temporal_latents=4),
        vae_loss=VAELossConfig(num_frames=9),
        denoise=DenoiseConfig(num_chunks=2, policies=(("recent", 1.0),)),
        events=EventsConfig(
            reward=EventConfig(widths=(8, 8), hidden=16),
            terminated=EventConfig(output="logit", widths=(8, 8), hidden=16),
            num_latents=4,
        ),
        optim=OptimConfig(steps=2, batch=2, preview_every=0, save_every=1000, log_every=1),
    )
    train("vae", plan, tmp_path / "vae")
    train("causal", replace(plan, init=tmp_path / "vae"), tmp_path / "causal")
    train("heads", replace(plan, init=tmp_path / "causal", head="events"), tmp_path / "world")
    env = gym.make("worldenv/World-v0", world=str(tmp_path / "world"))
    assert isinstance(env.action_space, gym.spaces.Box)
    assert np.allclose(env.action_space.low, actions.min(0))
    env.reset(seed=0)
    obs, reward, *_ = env.step(env.action_space.sample())
    assert obs.shape == (16, 16, 3)
    assert np.isfinite(float(reward))
    made = World.load(tmp_path / "world")
    assert made.config.provenance[0].data.startswith("lerobot:pusher")
    clips = list(generated(made, episodes=2, chunks=3, seed=0))
    count, rows = write_lerobot_set(tmp_path / "set", clips, fps=10, task="push", parts=config.spec.environment.actions)
    assert count == 2
    assert rows <= 2 * 3 * 2  # fewer where the head thinks that it ended
    (part,) = LeRobot(tmp_path / "set").parts
    assert (part.kind, part.size) == ("box", 2)
    assert np.all(np.asarray(part.high) <= actions.max(0) + 1e-6)  # quantities as they are, not normalised
