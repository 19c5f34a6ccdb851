"""Robots' recordings go all the way: imported, a world trained on them, stepped as an environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from tests.data.foreign import write_lerobot
from tests.small import record_here, small_plan
from worldenv import World
from worldenv.data.lerobot_writer import write_lerobot as write_lerobot_set
from worldenv.data.record import RecordConfig
from worldenv.data.sources.lerobot import LeRobot
from worldenv.dynamics.spec import WorldSpec
from worldenv.play.generated import generated
from worldenv.training.stages.registry import train


def test_a_lerobot_data_set_without_rewards_becomes_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldenv.training.loop.trainer.plot_losses", lambda log, path: None)
    actions = write_lerobot(tmp_path / "pusher", [48] * 5, rewards=False)
    asked = RecordConfig(
        env=f"lerobot:{tmp_path / 'pusher'}", num_latents=16, size=(16, 16), spec=WorldSpec(frames_per_latent=1)
    )
    config = record_here(replace(asked, spec=replace(asked.spec, chunk_latents=2)), tmp_path / "recording")
    assert config.spec.environment is not None
    assert config.clips == 11  # the last episode is held out
    plan = small_plan(tmp_path / "recording", name="pusher", num_latents=4)
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
