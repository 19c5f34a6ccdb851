"""One command compares agents trained inside a world with those that were not, on a world of a few random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldenv.bodies.vector import ACTION, action_signal, describe_actions
from worldenv.dynamics.environment import Environment
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.memory.config import MemoryConfig
from worldenv.models.codec import to_pixels
from worldenv.models.heads import EventConfig, HeadConfigs
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.world.config import WorldConfig
from worldenv.world.histories import Histories
from worldenv.world.starts import Starts
from worldenv.world.world import World
from worldenv_agents import gain as gains
from worldenv_agents.cli import main
from worldenv_agents.environments import EnvConfig, make_envs
from worldenv_agents.evaluate import evaluate
from worldenv_agents.gain import GainConfig, gain
from worldenv_agents.ppo import PPOConfig, train
from worldenv_agents.random_agent import RandomPolicy


class Bright(gym.Env[Any, Any]):
    """The picture is bright or dark; pressing is paid while it is bright, and costs while it is not."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.bright, self.age = bool(self.np_random.integers(2)), 0
        return self.show(), {}

    def step(self, action: Any) -> Any:
        reward = float(action) * (1.0 if self.bright else -1.0)
        self.bright, self.age = bool(self.np_random.integers(2)), self.age + 1
        return self.show(), reward, False, self.age >= 8, {}

    def show(self) -> Any:
        return np.full((16, 16, 3), 220 if self.bright else 30, np.uint8)


gym.register("test/Bright-v0", Bright, disable_env_checker=True)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of it that has learned nothing."""
    torch.manual_seed(0)
    parts = describe_actions(Bright.action_space)
    spec = WorldSpec(
        width=16,
        height=16,
        chunk_latents=1,
        frames_per_latent=1,
        takes={ACTION: action_signal(parts)},
        gives={},
        environment=Environment(id="test/Bright-v0", actions=parts, max_episode_steps=8),
    )
    head = EventConfig(num_codes=2, num_frames=1, widths=(4,), hidden=4, threshold=0.6)
    config = WorldConfig(
        name="bright",
        spec=spec,
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8), frames_per_latent=1),
        dit=DiTConfig(
            latent_channels=4,
            width=16,
            num_layers=1,
            num_heads=2,
            ffn_dim=32,
            freq_dim=16,
            patch=1,
            codes={ACTION: 2},
            camera_branch=False,
            key_branch=False,
        ),
        memory=MemoryConfig(policy="recent", temporal_latents=2, retrieved_chunks=1),
        heads=HeadConfigs(reward=head, terminated=replace(head, output="logit", threshold=1.0)),
    )
    views = torch.stack([torch.full((16, 16, 3), level, dtype=torch.uint8) for level in (30, 220)])
    moments = Histories(torch.randn(2, 3, 4, 2, 2).half(), Track({ACTION: torch.zeros(2, 3, 2)}), views[:, None])
    world = World(config, starts=Starts(views), moments=moments)
    for module in world.parts().values():
        module.eval().requires_grad_(False)
    folder = tmp_path_factory.mktemp("bright")
    world.save_pretrained(folder / "world")
    (folder / "make.json").write_text(json.dumps({"asked": {"frames": 1024}}))
    return folder / "world"


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
    kinds = [evaluate(RandomPolicy(e.single_action_space, seed=0), e, episodes=3, within=2) for e in (envs, waiting)]
    for scores in kinds:
        assert scores.lengths.tolist() == [8, 8, 8]
        assert (np.abs(scores.early) <= 2).all()
    np.testing.assert_array_equal(kinds[0].returns, kinds[1].returns)
