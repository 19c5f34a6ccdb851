from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from worldenv.envs.sb3 import SB3VecEnv
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.world.world import World


def make(world: World, task: str = "navigate", **kwargs: Any) -> WorldVectorEnv:
    return WorldVectorEnv(2, task=task, world=world, device="cpu", **kwargs)


def test_steps_equal_the_vector_env(tiny_world: World) -> None:
    venv, envs = SB3VecEnv(make(tiny_world, max_episode_steps=3)), make(tiny_world, max_episode_steps=3)
    venv.seed(4)
    obs, (wanted, _) = venv.reset(), envs.reset(seed=4)
    np.testing.assert_array_equal(obs["image"], wanted["image"])
    for t in range(4):
        actions = np.array([0, 2])
        obs, reward, done, infos = venv.step(actions)
        wanted, wanted_reward, terminated, truncated, info = envs.step(actions)
        np.testing.assert_array_equal(obs["image"], wanted["image"])
        np.testing.assert_allclose(reward, wanted_reward, rtol=1e-6)
        np.testing.assert_array_equal(done, terminated | truncated)
        assert reward.dtype == np.float32
        for row in range(2):
            assert ("terminal_observation" in infos[row]) == bool(done[row])
            if done[row]:
                assert t == 2
                last = infos[row]["terminal_observation"]
                assert last in venv.observation_space
                np.testing.assert_array_equal(last["image"], info["final_obs"][row]["image"])
                assert not np.array_equal(last["image"], obs["image"][row]), "obs is the next episode's first"
                assert infos[row]["TimeLimit.truncated"] == bool(truncated[row] and not terminated[row])
                assert infos[row]["is_success"] == (row == 0), "of the episode that ended"
    venv.close()


def test_reset_infos_and_images(tiny_world: World) -> None:
    venv = SB3VecEnv(make(tiny_world, "revisit", render_mode="rgb_array"))
    obs = venv.reset()
    assert [set(i) for i in venv.reset_infos] == [{"c2w", "c2w_commanded", "n_frames", "is_success"}] * 2
    np.testing.assert_array_equal(np.stack(venv.get_images()), obs)
    assert venv.get_attr("num_envs") == [2, 2]
    assert venv.env_is_wrapped(gym.Wrapper) == [False, False]
    assert venv.get_attr("num_envs", indices=[1]) == [2]
    with pytest.raises(ValueError, match="leave indices out"):
        venv.env_method("render", indices=[0])
    with pytest.raises(ValueError, match="leave indices out"):
        venv.set_attr("render_mode", None, indices=0)


def test_observations_without_a_network_are_refused(tiny_world: World) -> None:
    with pytest.raises(ValueError, match="obs_mode='image' or 'stack'"):
        SB3VecEnv(make(tiny_world, "revisit", obs_mode="chunk"))
    SB3VecEnv(make(tiny_world, "revisit", obs_mode="latent"))  # numbers, which any network takes


def test_other_environments_are_refused(tiny_world: World) -> None:
    with pytest.raises(ValueError, match="SameStep"):
        SB3VecEnv(make(tiny_world, autoreset_mode="NextStep"))
    with pytest.raises(ValueError, match="output='numpy'"):
        SB3VecEnv(make(tiny_world, output="torch"))
    with pytest.raises(ValueError, match="SyncVectorEnv"):
        SB3VecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))


def test_ppo_learns_a_few_steps(tiny_world: World) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import VecMonitor

    venv = VecMonitor(SB3VecEnv(make(tiny_world, max_episode_steps=2)))
    model = PPO("MultiInputPolicy", venv, n_steps=4, batch_size=4, n_epochs=1, seed=0, device="cpu")
    model.set_logger(Logger(None, []))
    model.learn(8)
    assert len(model.ep_info_buffer or []) == 4
