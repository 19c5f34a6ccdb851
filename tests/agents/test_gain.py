"""One command compares agents trained inside a world with those that were not, on a world of a few random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from worldenv.bodies.vector import describe_actions
from worldenv.data.sources.gym import GymSource
from worldenv.dynamics.environment import Environment
from worldenv.models.codec import to_pixels
from worldenv.world.world import World
from worldenv_agents import gain as gains
from worldenv_agents.acting import Actor
from worldenv_agents.cli import main
from worldenv_agents.environments import EnvConfig, make_envs
from worldenv_agents.evaluate import evaluate
from worldenv_agents.gain import GainConfig, gain
from worldenv_agents.ppo import PPOConfig, train
from worldenv_agents.random_agent import RandomPolicy


def tiny(world: Path, **changes: Any) -> GainConfig:
    place = EnvConfig(env="worldenv/World-v0", world=str(world), obs_mode="stack", horizon=4)
    learner = PPOConfig(
        environment=place,
        num_envs=4,
        steps=64,
        rollout=8,
        minibatch=16,
        epochs=8,
        lr=3e-3,
        gamma=0.5,
        scale_rewards=True,
    )
    return GainConfig(learner=learner, seeds=2, legs=2, leg_episodes=4, episodes=8, **changes)


def test_the_command_goes_on_where_it_was_and_tells_who_learned_what(
    bright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tiny(bright, arms=("world", "real", "blank")), tmp_path / "gain"

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gains, "write_gain", killed)
        with pytest.raises(KeyboardInterrupt):
            gain(replace(config, seeds=1), out)
    (out / "blank-0" / "curve.jsonl").unlink()  # trained, and killed before it was scored
    written = (out / "world-0" / "policy.safetensors").stat().st_mtime_ns
    report = gain(config, out)
    assert (out / "world-0" / "policy.safetensors").stat().st_mtime_ns == written
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["arms"]) == {"random", "world", "real", "blank"}
    assert report["arms"]["real"]["real"]["n"] == 16
    assert report["arms"]["real"]["steps"] == 1024  # as many frames as the world was made of
    assert [point["step"] for point in report["curves"]["world"][0]] == [32, 64]
    low, _ = report["arms"]["real"]["real"]["ci95"]
    assert low > report["arms"]["random"]["real"]["mean"] + 1  # it sees when to press
    assert report["arms"]["blank"]["real"]["mean"] < low
    assert "world - real" in report["differences"]
    assert "PPO trained inside, seeing nothing" in (out / "report.md").read_text()
    with pytest.raises(ValueError, match="was begun with another legs"):
        gain(replace(config, legs=3), out)


def test_what_cannot_be_compared_is_refused(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="leave --env and --dynamics out"):
        GainConfig(learner=PPOConfig())
    for wrong, says in (
        ({"arms": ()}, r"arms=\(\); name one or more"),
        ({"arms": ("world", "world")}, "each once"),
        ({"real_frames": 0}, "real_frames=0 must be 1 or more"),
        ({"seeds": 2**40}, "seeds=1099511627776 must be from 1 to 65536"),
    ):
        with pytest.raises(ValueError, match=says):
            GainConfig(**wrong)  # type: ignore[arg-type]
    moved = World.load(bright)
    moved.save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match=r"does not say how many frames .* pass --real-frames"):
        gain(tiny(tmp_path / "world"), tmp_path / "gain")
    monkeypatch.setattr("sys.argv", ["worldenv-agents", "gain", "--out", str(tmp_path / "gain")])
    with pytest.raises(SystemExit, match=r"make\.json does not say how many frames maze was made of"):
        main()


def test_the_twin_shows_the_latents_that_the_encoder_makes_of_it(bright: Path) -> None:
    place = EnvConfig(env="worldenv/World-v0", world=str(bright), obs_mode="latent", dynamics="sim")
    envs = make_envs(place, 2)
    obs, _ = envs.reset(seed=0)
    vae, core = World.load(bright).vae, envs.unwrapped.core  # type: ignore[attr-defined]
    for _ in range(3):
        wanted = vae.encode(to_pixels(core.frames))
        np.testing.assert_allclose(obs, wanted.numpy(), atol=1e-5)
        obs, *_ = envs.step(np.array([0, 1]))
    inside = make_envs(replace(place, dynamics=None), 2)
    assert inside.single_observation_space == envs.single_observation_space
    train(PPOConfig(environment=place, rollout=4, steps=8), envs=inside)


def test_the_blank_see_nothing_and_ended_rows_wait(bright: Path) -> None:
    place = EnvConfig(env="worldenv/World-v0", world=str(bright), dynamics="sim", blank=True)
    envs = make_envs(place, 3)
    obs, _ = envs.reset(seed=0)
    for _ in range(8):
        assert not obs.any()
        obs, _, _, truncated, info = envs.step(np.ones(3, np.int64))
    assert truncated.all()
    assert not any(final.any() for final in info["final_obs"])
    waiting = make_envs(place, 3, autoreset_mode="Disabled")
    kinds = [evaluate(RandomPolicy(e.single_action_space, seed=0), e, episodes=3) for e in (envs, waiting)]
    for scores in kinds:
        assert scores.lengths.tolist() == [8, 8, 8]
        assert (np.abs(scores.rewards[:, :2].sum(1)) <= 2).all()
    np.testing.assert_array_equal(kinds[0].returns, kinds[1].returns)


@pytest.mark.parametrize("mode", ["image", "stack", "latent"])
def test_in_recordings_a_policy_sees_what_it_saw_in_the_world(mode: str, bright: Path, tmp_path: Path) -> None:
    place = EnvConfig(env="worldenv/World-v0", world=str(bright), obs_mode=mode)  # type: ignore[arg-type]
    train(PPOConfig(environment=place, num_envs=2, rollout=4, steps=8), out=tmp_path)
    actor, twin = Actor(str(tmp_path)), make_envs(replace(place, dynamics="sim"), 1)
    obs, _ = twin.reset(seed=0)
    frames = twin.unwrapped.chunk_frames  # type: ignore[attr-defined]
    actor.watch(frames[0], begins=True)
    for _ in range(5):
        np.testing.assert_allclose(actor._seen(), obs[0], atol=1e-5)
        obs, *_ = twin.step(np.array([1]))
        actor.watch(twin.unwrapped.chunk_frames[0], begins=False)  # type: ignore[attr-defined]
    spec = World.load(bright).spec
    sources = [GymSource("test/Bright-v0", 20, 5, spec=spec, policy=f"ppo:{tmp_path}") for _ in range(2)]
    clips = [sources[0].clip(1), sources[1].clip(0), sources[1].clip(1)]
    np.testing.assert_array_equal(clips[0].signals["action"], clips[2].signals["action"])  # whatever came before


def test_actions_that_are_a_dictionary_are_learned_as_one_array(bright: Path, tmp_path: Path) -> None:
    world = World.load(bright)
    space = gym.spaces.Dict({"by": gym.spaces.Box(-2.0, 4.0, (1,)), "no": gym.spaces.Box(0.0, 1.0, (1,))})
    environment = Environment(id="test/Bright-v0", actions=describe_actions(space), max_episode_steps=8)
    world.config = replace(world.config, spec=replace(world.spec, environment=environment))
    world.save_pretrained(tmp_path / "world")
    place = EnvConfig(env="worldenv/World-v0", world=str(tmp_path / "world"), obs_mode="latent")
    envs = make_envs(place, 2)
    assert envs.single_action_space == gym.spaces.Box(-1.0, 1.0, (2,))  # as SB3VecEnv gives them
    train(PPOConfig(environment=place, num_envs=2, rollout=4, steps=8), out=tmp_path / "agent")
    actor = Actor(str(tmp_path / "agent"))
    actor.watch(np.zeros((1, 16, 16, 3), np.uint8), begins=True)
    assert space.contains(actor(np.zeros((16, 16, 3), np.uint8), space, np.random.default_rng(0)))
