"""Every task, as the registry lists them: checker, Stable-Baselines3, TorchRL, and forks; mazes with walls, hands."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401  (registers the ids)
from tests.world.test_clips import some_clips, with_clips
from worldenv.envs.sb3 import SB3VecEnv
from worldenv.tasks.registry import TASKS, id_names, make_task
from worldenv.world.world import World

NAMES = id_names()
IDS = [
    f"worldenv/{name}-{version}"
    for task, (name, version) in NAMES.items()
    if not (make_task(task).defaults.simulator or make_task(task).defaults.recorded)
]


HANDS = [f"worldenv/{NAMES[task][0]}-v0" for task in NAMES if make_task(task).defaults.simulator]


@pytest.fixture
def world(request: pytest.FixtureRequest, env_id: str) -> World:
    if env_id in HANDS:
        hands: World = request.getfixturevalue("hand_world")
        return hands
    rendered: World = request.getfixturevalue("rendered_world")
    return with_clips(rendered, some_clips(rendered, count=4))


def test_tasks_of_other_worlds_alone_are_left_out() -> None:
    assert len(IDS + HANDS) == len(TASKS) - 1  # that of a recorded environment


@pytest.mark.parametrize("env_id", IDS + HANDS)
def test_gymnasiums_checker_passes(world: World, env_id: str) -> None:
    env = gym.make(env_id, world=world, render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    assert [str(warning.message) for warning in said] == []
    env.close()


@pytest.mark.parametrize("env_id", IDS + HANDS)
def test_stable_baselines_sees_an_environment(world: World, env_id: str) -> None:
    venv = SB3VecEnv(gym.make_vec(env_id, num_envs=2, world=world))
    venv.seed(0)
    obs: Any = venv.reset()
    for _ in range(2):
        obs, reward, done, _ = venv.step(np.stack([venv.action_space.sample() for _ in range(2)]))
        assert reward.shape == done.shape == (2,)
        for row in range(2):
            one = {key: part[row] for key, part in obs.items()} if isinstance(obs, dict) else obs[row]
            assert venv.observation_space.contains(one)
    venv.close()


@pytest.mark.parametrize("env_id", IDS + HANDS)
def test_torchrl_sees_an_environment(world: World, env_id: str) -> None:
    envs = pytest.importorskip("torchrl.envs", reason="pip install torchrl")
    env = envs.GymWrapper(gym.make(env_id, world=world), device="cpu")
    assert env.rollout(2, break_when_any_done=False).batch_size == (2,)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_a_fork_equals_its_trunk_to_the_last_bit(world: World, env_id: str) -> None:
    envs: Any = gym.make_vec(env_id, num_envs=2, world=world, max_episode_steps=4).unwrapped
    envs.reset(seed=0)
    envs.step(np.array([1, 2]))
    envs.restore_state(envs.clone_state([0]), [1])
    for i in range(5):  # past the time limit, into the next episode
        obs, reward, terminated, truncated, info = envs.step(np.full(2, (1, 3)[i % 2]))
        parts = obs.values() if isinstance(obs, dict) else [obs]
        for part in (*parts, reward, terminated, truncated, info["c2w"]):
            np.testing.assert_array_equal(part[0], part[1])
    walls = envs.core.dynamics.history.walls
    assert (walls.evidence[0] == walls.evidence[1]).all()
    assert walls.evidence.any()
    envs.close()
