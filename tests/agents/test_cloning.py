"""Hands are cloned from expert episodes: plans fit what is learned from, and policies act in both kinds of steps."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.base.config import to_dict
from worldenv.bodies.hand_model import HAND
from worldenv.data.record import RecordConfig, make_source
from worldenv.data.schema import read_shard, shard_paths, write_shard
from worldenv_agents.action_chunks import ClonedPolicy, CloningConfig
from worldenv_agents.cloning import _demonstrations, clone
from worldenv_agents.environments import EnvConfig
from worldenv_agents.evaluate import evaluate_named

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
pytestmark = pytest.mark.manip
TINY = CloningConfig(episodes=1, ahead=4, width=16, num_layers=1, steps=400, batch=8, lr=2e-3, shift=0)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demonstrations")
    config = RecordConfig(env="hand/lift", clips=3, num_latents=6)
    source = make_source(config)
    clips = [source.clip(i) for i in range(3)]
    assert sum(clip.attributes["kind"] == "expert" for clip in clips) == 1
    write_shard(folder / "shard-00000.h5", clips, attributes={"config": json.dumps(to_dict(config)), "fps": 24})
    return folder


def test_a_clone_plans_what_it_was_shown_and_acts(recording: Path, tmp_path: Path) -> None:
    short = clone(recording, CloningConfig(**{**to_dict(TINY), "steps": 20}), tmp_path / "short")
    assert clone(recording, TINY, tmp_path / "long")["error"] < 0.6 * short["error"]
    obs = {"image": np.zeros((2, 64, 64, 3), np.uint8), "joints": HAND.limits.float().numpy(), "goal": np.zeros((2, 3))}
    one, four = (ClonedPolicy.load(tmp_path / "long", num_latents=n).act(obs, {}) for n in (1, 4))
    assert (one.shape, four.shape) == ((2, 26), (2, 4, 26))
    np.testing.assert_array_equal(one, four[:, 0])
    HAND.check(torch.from_numpy(four), what="plans")
    scores = evaluate_named(
        f"cloned:{tmp_path / 'long'}",
        EnvConfig(env="worldenv/HandLiftSim-v0", max_episode_steps=2),
        episodes=1,
        num_envs=1,
    )
    assert scores.lengths.tolist() == [2]


def test_a_clone_is_shown_the_goal_that_its_task_shows(recording: Path) -> None:
    """Of lifting that is above the object, not the tray."""
    clip = next(
        clip for path in shard_paths(recording) for clip in read_shard(path) if clip.attributes["kind"] == "expert"
    )
    _, _, goals = _demonstrations(recording, 1)
    rest = clip.signals["object"][0, :3]
    np.testing.assert_allclose(goals[0], rest + np.array([0, 0, 0.05]), atol=1e-6)
    envs = gym.make_vec("worldenv/HandLiftSim-v0", num_envs=1)
    obs, _ = envs.reset(seed=int(clip.attributes["seed"]))
    np.testing.assert_allclose(obs["goal"][0, 2] - 0.05, rest[2], atol=0.01)


def test_what_cannot_be_cloned_is_said(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 1 expert episodes, episodes=5"):
        clone(recording, CloningConfig(episodes=5), tmp_path)
    for wrong, says in (
        ({"width": 30}, "multiple of 4"),
        ({"width": 2**16}, "width=65536, num_layers=3 ask for"),
        ({"shift": -1}, "shift=-1 must be 0 or more"),
        ({"shift": 2**40}, "shift=1099511627776 must be at most 1024"),
        ({"batch": 2**40}, "batch=1099511627776 must be from 1 to 65536"),
        ({"lr": 1e9}, "must be at most 1"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
    ):
        with pytest.raises(ValueError, match=says):
            CloningConfig(**wrong)  # type: ignore[arg-type]
    clone(recording, CloningConfig(**{**to_dict(TINY), "steps": 1}), tmp_path)
    with pytest.raises(ValueError, match="a step has 8 latents, the policy plans 4"):
        ClonedPolicy.load(tmp_path, num_latents=8)
    tensors, header = load_tensors(tmp_path / "policy.safetensors")
    save_tensors(tmp_path / "policy.safetensors", tensors, header={**header, "format": True})
    with pytest.raises(ValueError, match=r"policy\.safetensors is no cloned policy of this version"):
        ClonedPolicy.load(tmp_path, num_latents=1)
