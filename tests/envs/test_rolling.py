"""Environments of a world with a rolling window are made and stepped like any others."""

import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.world.world import World


@pytest.fixture(scope="module")
def folder(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampler = SamplerConfig(num_steps=3, stochastic=True, rolling=True)
    config = replace(tiny_world.config, sampler=sampler)
    path = tmp_path_factory.mktemp("rolling")
    World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts).save_pretrained(path)
    return path


@pytest.mark.parametrize("env_id", ["worldenv/Navigate-v0", "worldenv/Revisit-v0"])
@pytest.mark.parametrize("policy", [None, "reset"])
def test_gymnasiums_checker_passes(folder: Path, env_id: str, policy: str | None) -> None:
    env = gym.make(env_id, world=str(folder), device="cpu", dtype="float32", lookahead_policy=policy)
    assert env.unwrapped.core.dynamics.sampler.lookahead_policy == (policy or "hold")  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped)


def test_episodes_end_and_are_put_back_in_mid_window(folder: Path, tmp_path: Path) -> None:
    """Through time limits, a saved state and a fork: rows 2 and 3 go on as rows 0 and 1 did."""
    envs = gym.make_vec(
        "worldenv/Revisit-v0", num_envs=4, world=str(folder), obs_mode="chunk", max_episode_steps=4, device="cpu"
    ).unwrapped
    envs.reset(seed=0)
    half = np.random.default_rng(0).integers(0, 4, (10, 2))
    actions = np.concatenate([half, half], 1)  # rows 2 and 3 do what rows 0 and 1 do
    for action in actions[:2]:
        envs.step(action)
    envs.save_state(tmp_path / "state.safetensors", [0, 1])  # type: ignore[attr-defined]
    envs.step(actions[2])
    envs.load_state(tmp_path / "state.safetensors", [0, 1])  # type: ignore[attr-defined]
    envs.fork([0, 1], [2, 3])  # type: ignore[attr-defined]
    ended = 0
    for action in actions[2:]:
        obs, _, _, truncated, _ = envs.step(action)
        assert (obs[:2] == obs[2:]).all()
        ended += int(truncated.sum())
    assert ended >= 4


def test_the_policy_is_an_option_of_worlds_with_a_window(folder: Path, tiny_world: World) -> None:
    envs = WorldVectorEnv(1, task="revisit", world=str(folder), device="cpu", lookahead_policy="reset")
    assert envs.core.dynamics.sampler.lookahead_policy == "reset"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'hold', 'reset'"):
        WorldVectorEnv(1, task="revisit", world=str(folder), device="cpu", lookahead_policy="wait")
    with pytest.raises(ValueError, match="no rolling window"):
        WorldVectorEnv(1, task="revisit", world=tiny_world, device="cpu", lookahead_policy="reset")


def test_worlds_written_before_load_as_they_were(tiny_world_dir: Path, tmp_path: Path) -> None:
    for file in tiny_world_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lines = (tmp_path / "world.toml").read_text().splitlines()
    old = [line for line in lines if not line.startswith(("rolling", "lookahead_policy"))]
    assert len(old) == len(lines) - 2
    (tmp_path / "world.toml").write_text("\n".join(old))
    assert World.load(tmp_path).config == World.load(tiny_world_dir).config
