"""PPO learns a fixed goal with discrete and continuous actions, and what it learnt survives saving."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.base.log import JsonlLog
from worldenv.geometry.pose import look
from worldenv_agents.environments import EnvConfig, make_envs
from worldenv_agents.evaluate import evaluate, evaluate_named
from worldenv_agents.ppo import PPOConfig, PPOPolicy, build_network, read_policy, train
from worldenv_agents.progress import finite
from worldenv_agents.random_agent import RandomPolicy

GOAL = look(torch.tensor([[2.0, 0.0, 2.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
QUICK = {"rollout": 32, "lr": 1e-3, "steps": 6_000}


@pytest.mark.parametrize("action_mode", ["basic", "camera"])
def test_ppo_beats_random_on_a_fixed_goal(action_mode: str, make_blank: Callable[..., Any]) -> None:
    gains = []
    for seed in range(3):
        envs = make_blank(16, goals=GOAL, action_mode=action_mode)
        policy = train(PPOConfig(seed=seed, **QUICK), envs=envs)
        random = RandomPolicy(envs.single_action_space, seed=seed)
        learnt, floor = (evaluate(who, envs, episodes=32, first_seed=100) for who in (policy, random))
        gains.append(learnt.returns.mean() - floor.returns.mean())
        assert learnt.success.mean() > floor.success.mean() + 0.5
    assert min(gains) > 1.0


@pytest.mark.parametrize("action_mode", ["basic", "discrete", "camera"])
def test_a_loaded_policy_acts_identically(action_mode: str, tiny_world_dir: Path, tmp_path: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), action_mode=action_mode, max_episode_steps=4)  # type: ignore[arg-type]
    envs = make_envs(where, 2)
    policy = train(PPOConfig(environment=where, num_envs=2, rollout=4, steps=8), envs=envs, out=tmp_path)
    loaded = PPOPolicy.load(tmp_path, envs.single_observation_space, envs.single_action_space)
    obs, info = envs.reset(seed=7)
    for _ in range(3):
        action = policy.act(obs, info)
        np.testing.assert_array_equal(action, loaded.act(obs, info))
        obs, _, _, _, info = envs.step(action)
    assert read_policy(tmp_path) == (policy.config, str(envs.single_action_space))
    scores = evaluate_named(f"ppo:{tmp_path}", where, episodes=2)
    assert scores.lengths.max() <= 4


def test_sampled_actions_follow_the_seed(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    envs = make_blank(8, goals=GOAL)
    train(PPOConfig(rollout=4, steps=32), envs=envs, out=tmp_path)
    obs, info = envs.reset(seed=0)
    spaces_ = envs.single_observation_space, envs.single_action_space
    policies = [PPOPolicy.load(tmp_path, *spaces_, deterministic=False, seed=seed) for seed in (1, 1, 2)]
    actions = []
    for policy in policies:
        actions.append(np.stack([policy.act(obs, info) for _ in range(4)]))
        torch.rand(3)  # somebody else's random numbers change nothing
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    assert not np.array_equal(actions[0][0], actions[0][1])


def test_only_safetensors_and_json_are_written(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    train(PPOConfig(rollout=4, steps=64), envs=make_blank(16, goals=GOAL), out=tmp_path)
    written = {"policy.safetensors", "policy.json", "log.jsonl", "checkpoint.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == written


def test_a_run_goes_on_where_it_was(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    """With its weights, its optimizer and its log; not from the beginning, nor over another run."""
    short, long = (PPOConfig(rollout=4, minibatch=16, epochs=1, steps=steps) for steps in (32, 96))
    envs = make_blank(4, goals=GOAL, limit=2)
    first = train(short, envs=envs, out=tmp_path).network.state_dict()
    kept, header = load_tensors(tmp_path / "checkpoint.safetensors")
    assert header["steps"] == 32
    assert all(torch.equal(kept[f"network.{name}"], value) for name, value in first.items())
    with pytest.raises(ValueError, match="holds a run already; pass --resume"):
        train(long, envs=envs, out=tmp_path)
    with pytest.raises(ValueError, match="the run had another 'gamma'"):
        train(replace(long, gamma=0.5), envs=envs, out=tmp_path, resume=True)
    again = train(short, envs=envs, out=tmp_path, resume=True).network.state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items()), "all steps are taken"
    longer = train(long, envs=envs, out=tmp_path, resume=True).network.state_dict()
    assert any(not torch.equal(longer[name], value) for name, value in first.items())
    more, header = load_tensors(tmp_path / "checkpoint.safetensors")
    assert header["steps"] == 96
    updates = {name: (float(kept[name]), float(more[name])) for name in kept if name.endswith(".step")}
    assert set(updates.values()) == {(2.0, 6.0)}, "Adam counts on"
    assert [line["step"] for line in JsonlLog.read(tmp_path / "log.jsonl")] == [16, 32, 48, 64, 80, 96]


def test_tensorboard_is_an_extra(
    make_blank: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'worldenv\[tensorboard\]'"):
        train(PPOConfig(rollout=4, steps=16), envs=make_blank(4, goals=GOAL), out=tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_what_is_learnt(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = PPOConfig(rollout=4, minibatch=16, epochs=1, steps=32)
    train(config, envs=make_blank(4, goals=GOAL, limit=2), out=tmp_path, tensorboard=True)
    shown = events.EventAccumulator(str(tmp_path)).Reload()
    assert {"rollout/ep_rew_mean", "rollout/success_rate", "train/value_loss"} <= set(shown.Tags()["scalars"])
    assert [event.step for event in shown.Scalars("rollout/ep_rew_mean")] == [16, 32]


def test_training_is_a_function_of_the_seed(make_blank: Callable[..., Any]) -> None:
    config = PPOConfig(rollout=8, steps=256, seed=5)
    a, b = (train(config, envs=make_blank(8, goals=GOAL)).network.state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("mode", ["image", "stack", "dict"])
def test_the_network_takes_every_picture(mode: str, tiny_world_dir: Path) -> None:
    env = gym.make("worldenv/Revisit-v0", world=str(tiny_world_dir), obs_mode=mode)
    network = build_network(PPOConfig(), env.observation_space, env.action_space)
    obs, _ = env.reset(seed=0)
    action, _ = network.predict(obs, deterministic=True)
    assert env.action_space.contains(np.int64(action))


def test_pictures_change_the_action_scores(tiny_world_dir: Path) -> None:
    env = gym.make("worldenv/Revisit-v0", world=str(tiny_world_dir))
    network = build_network(PPOConfig(), env.observation_space, env.action_space)
    dark, _ = network.obs_to_tensor(np.zeros((1, 48, 64, 3), np.uint8))
    light, _ = network.obs_to_tensor(np.full((1, 48, 64, 3), 255, np.uint8))
    assert not torch.allclose(network.predict_values(dark), network.predict_values(light))


def test_a_checkpoint_with_something_more_is_refused(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    config, path = PPOConfig(rollout=4, steps=16), tmp_path / "checkpoint.safetensors"
    train(config, envs=make_blank(4, goals=GOAL), out=tmp_path)
    tensors, header = load_tensors(path)
    save_tensors(path, {**tensors, "surprise": torch.zeros(2)}, header=header)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors: surprise unknown; the file was edited"):
        train(replace(config, steps=32), envs=make_blank(4, goals=GOAL), out=tmp_path, resume=True)


def test_a_training_that_fails_says_so_in_a_line(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    network = torch.nn.Linear(1, 1)
    with finite(network):
        network.weight.data += 1
    with pytest.raises(ValueError, match=r"^something else$"), finite(network):
        raise ValueError("something else")
    network.weight.data[0] = torch.nan
    with (
        pytest.raises(ValueError, match=r"^training has failed: weight is not finite; pass a smaller --lr"),
        finite(network),
    ):
        raise ValueError("of a distribution\nin two lines")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gamma": math.nan}, "gamma=nan must lie between 0 and 1"),
        ({"gae_lambda": 1.5}, "gae_lambda=1.5 must lie between 0 and 1"),
        ({"lr": 1e308}, r"lr=1e\+308 must be at most 1"),
        ({"entropy": -1.0}, "entropy=-1.0 must be 0 or more"),
        ({"clip_range": math.inf}, "clip_range=inf must be positive"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"seed": 2**32}, "seed=4294967296 must be at most 4294967295"),
        ({"rollout": 2**17}, "rollout=131072 must be at most 65536"),
        ({"steps": 2**63}, f"must be 1 or more, and at most {2**63 - 1}"),
        ({"features": 2**16, "hidden": 2**16}, "features=65536, hidden=65536 ask for 17179869184 weights"),
    ],
)
def test_numbers_with_which_nothing_is_learned_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PPOConfig(**wrong)


def test_loading_refuses_other_spaces_and_broken_folders(make_blank: Callable[..., Any], tmp_path: Path) -> None:
    envs = make_blank(4, goals=GOAL)
    train(PPOConfig(rollout=4, steps=16), envs=envs, out=tmp_path)
    with pytest.raises(ValueError, match="acts in Discrete"):
        PPOPolicy.load(tmp_path, envs.single_observation_space, spaces.Discrete(81))
    with pytest.raises(ValueError, match="wrong shape"):
        PPOPolicy.load(tmp_path, spaces.Box(-1, 1, (3,)), envs.single_action_space)
    with pytest.raises(ValueError, match="no such file"):
        read_policy(tmp_path / "absent")
    values = json.loads((tmp_path / "policy.json").read_text())
    for other in (99, True, 1.0):
        (tmp_path / "policy.json").write_text(json.dumps({**values, "format": other}))
        with pytest.raises(ValueError, match=r"policy\.json: not a policy of format 1"):
            read_policy(tmp_path)
