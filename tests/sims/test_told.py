"""Experts that environments tell of, recorded with noise and without; MetaWorld's and Fetch's where those are there."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from worldenv.data.sources.gym import GymSource
from worldenv.sims.told import WithExpert


class Push(gym.Env[Any, Any]):
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros((16, 16, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.zeros((16, 16, 3), np.uint8), 0.0, False, False, {}


gym.register("test/Told-v0", lambda: WithExpert(Push(), lambda obs: np.array([0.5, 2.0])), disable_env_checker=True)


class Wide(Push):
    action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)


gym.register("test/Wide-v0", lambda: WithExpert(Wide(), lambda obs: np.array([0.5, 2.0])), disable_env_checker=True)
gym.register("test/Untold-v0", Push, disable_env_checker=True)


class Choosing(Push):
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset()[0], {"expert": 1}


gym.register("test/Choosing-v0", Choosing, disable_env_checker=True)


def recorded(policy: str, env_id: str = "test/Told-v0") -> Any:
    source = GymSource(env_id, 4, 0, known=(), policy=policy)
    return np.concatenate([source.clip(i).signals["action"][1:] for i in range(2)])


def test_what_an_expert_would_do_is_done() -> None:
    np.testing.assert_array_equal(recorded("expert"), [[0.5, 1.0]] * 8)
    np.testing.assert_array_equal(recorded("expert", "test/Wide-v0"), [[0.5, 2.0]] * 8)
    noisy = recorded("noisy:0.2")
    np.testing.assert_array_equal(noisy, recorded("noisy:0.2"))
    assert 0 < np.abs(noisy[:, 0] - 0.5).mean() < 0.4
    assert np.abs(noisy).max() <= 1


@pytest.mark.parametrize(
    ("policy", "env_id", "said"),
    [
        ("expert", "test/Untold-v0", "info has no 'expert'"),
        ("noisy:much", "test/Told-v0", "noisy:much: pass a number"),
        ("noisy:-1", "test/Told-v0", "within 0..10"),
        ("noisy:0.5", "test/Wide-v0", "in one with bounds"),
        ("expert", "test/Choosing-v0", "acts in Discrete"),
    ],
)
def test_what_cannot_be_is_said(policy: str, env_id: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recorded(policy, env_id)


@pytest.mark.parametrize(
    ("package", "module", "env_id"),
    [
        ("metaworld", "worldenv.sims.metaworld", "MetaWorld/drawer-open-v3"),
        ("gymnasium_robotics", "worldenv.sims.fetch", "Fetch/Reach-v4"),
        ("gymnasium_robotics", "worldenv.sims.fetch", "Fetch/PickAndPlace-v4"),
    ],
)
def test_their_experts_do_their_tasks(package: str, module: str, env_id: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    env = gym.make(f"{module}:{env_id}")
    _, info = env.reset(seed=0)
    best = 0.0
    for _ in range(150):
        _, _, terminated, truncated, info = env.step(info["expert"])
        best = max(best, float(info.get("success", info.get("is_success", 0))))
        if terminated or truncated or best:
            break
    env.close()
    assert best == 1


def test_who_lacks_them_is_told_what_to_install() -> None:
    for package, module in (("metaworld", "worldenv.sims.metaworld"), ("gymnasium_robotics", "worldenv.sims.fetch")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(ImportError, match=r"pip install 'worldenv\["):
                importlib.import_module(module)
