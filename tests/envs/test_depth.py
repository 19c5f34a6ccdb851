"""Depth in observations and as a rendering: the head's in a world, the true one in its twin."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401  (registers the ids)
from worldenv.world.world import World


def test_a_world_shows_the_depth_of_its_newest_view(rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, world=rendered_world, obs_mode="dict", obs_keys=["depth"])
    assert envs.single_observation_space["depth"].shape == (48, 64)  # type: ignore[index]
    obs, info = envs.reset(seed=0)
    assert "depth" not in info
    seen = [obs["depth"]]
    for _ in range(2):
        obs, *_, info = envs.step(envs.action_space.sample())
        assert envs.observation_space.contains(obs)
        bank = envs.unwrapped.core.dynamics.history.bank  # type: ignore[attr-defined]
        newest = (int(bank.length[0]) - 1) // bank.every
        assert np.array_equal(obs["depth"][0], bank.depth[0, newest].float().numpy())
        seen.append(obs["depth"])
    assert (np.diff(np.stack(seen), axis=0) != 0).any()
    envs.close()


def test_depth_is_a_rendering(rendered_world: World) -> None:
    env = gym.make("worldenv/Revisit-v0", world=rendered_world, render_mode="depth_array")
    assert env.metadata["render_modes"] == ["rgb_array", "depth_array"]
    env.reset(seed=0)
    depth = env.render()
    assert depth.shape == (48, 64)  # type: ignore[union-attr]
    assert depth.dtype == np.float32  # type: ignore[union-attr]
    env.close()


def test_worlds_without_a_head_have_no_depth(tiny_world: World, rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=tiny_world)
    assert envs.metadata["render_modes"] == ["rgb_array"]
    envs.close()
    with pytest.raises(ValueError, match="this world has no depth"):
        gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=tiny_world, render_mode="depth_array")
    for world, memory in ((tiny_world, "auto"), (rendered_world, {"render": False})):
        kwargs = {"world": world, "memory": memory, "obs_mode": "dict", "obs_keys": ["depth"]}
        with pytest.raises(ValueError, match="this environment offers image, c2w"):
            gym.make_vec("worldenv/Revisit-v0", num_envs=1, **kwargs)


@pytest.mark.usefixtures("sims")
def test_the_twin_casts_rays_only_where_depth_is_asked_for(maze_world: World) -> None:
    plain = gym.make_vec("worldenv/RevisitSim-v0", num_envs=1, world=maze_world)
    plain.reset(seed=0, options={"start": 1})
    assert "depth" not in plain.unwrapped.core.dynamics.present  # type: ignore[attr-defined]
    plain.close()
    kwargs = {"world": maze_world, "obs_mode": "dict", "obs_keys": ["image", "depth"], "render_mode": "depth_array"}
    envs = gym.make_vec("worldenv/RevisitSim-v0", num_envs=1, **kwargs)
    obs, _ = envs.reset(seed=0, options={"start": 1})
    assert envs.observation_space.contains(obs)
    assert 0 < obs["depth"].min() < obs["depth"].max() < 50
    obs, *_ = envs.step(np.array([2]))
    assert np.array_equal(envs.render()[0], obs["depth"][0])  # type: ignore[index]
    envs.close()


def test_gymnasium_accepts_it(rendered_world: World) -> None:
    kwargs = {"world": rendered_world, "obs_mode": "dict", "obs_keys": ["image", "depth"]}
    check_env(gym.make("worldenv/Explore-v0", **kwargs).unwrapped, skip_render_check=True)
