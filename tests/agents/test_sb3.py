"""The environments pass Stable-Baselines3's checks, single and vectorised."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import worldenv
import worldenv.envs.sb3
from worldenv_agents.ppo import PPOConfig, train


@pytest.mark.parametrize("env_id", ["worldenv/Navigate-v0", "worldenv/Revisit-v0"])
@pytest.mark.parametrize("action_mode", ["basic", "discrete", "keys", "camera"])
def test_check_env_passes_without_a_warning(env_id: str, action_mode: str, tiny_world_dir: Path) -> None:
    env = gym.make(env_id, world=str(tiny_world_dir), action_mode=action_mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def make(tiny_world_dir: Path, **kwargs: Any) -> Any:
    return gym.make_vec("worldenv/Navigate-v0", num_envs=3, world=str(tiny_world_dir), **kwargs)


def test_the_vec_env_keeps_sb3s_contract(tiny_world_dir: Path) -> None:
    venv = worldenv.envs.sb3.SB3VecEnv(make(tiny_world_dir, max_episode_steps=2))
    assert isinstance(venv, VecEnv)
    venv.seed(3)
    obs = venv.reset()
    for step in range(4):
        for row in range(3):
            assert venv.observation_space.contains({key: value[row] for key, value in obs.items()})
        obs, rewards, dones, infos = venv.step(np.zeros(3, np.int64))
        assert rewards.shape == dones.shape == (3,)
        assert dones.dtype == bool
        assert len(infos) == 3
        assert dones.all() == (step % 2 == 1)
        for info, done in zip(infos, dones, strict=True):
            assert ("terminal_observation" in info) == done
            if done:
                assert venv.observation_space.contains(info["terminal_observation"])
                assert info["TimeLimit.truncated"]
    assert venv.get_attr("num_envs") == [3, 3, 3]
    assert venv.env_is_wrapped(gym.Wrapper) == [False] * 3


def test_seeding_the_vec_env_repeats_an_episode(tiny_world_dir: Path) -> None:
    venv = worldenv.envs.sb3.SB3VecEnv(make(tiny_world_dir))
    views = []
    for _ in range(2):
        venv.seed(11)
        venv.reset()
        views.append(venv.step(np.zeros(3, np.int64))[0]["image"])
    np.testing.assert_array_equal(*views)


def test_sb3_evaluates_a_trained_policy(tiny_world_dir: Path) -> None:
    envs = make(tiny_world_dir, max_episode_steps=3, obs_keys=["goal"])
    policy = train(PPOConfig(rollout=4, steps=12), envs=envs)
    monitored = VecMonitor(worldenv.envs.sb3.SB3VecEnv(envs))
    mean, _ = evaluate_policy(policy.network, monitored, n_eval_episodes=3)
    assert np.isfinite(mean)
