"""An environment that worldenv knows nothing of, the whole way: recorded, trained, saved, stepped as World-v0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from tests.small import record_here, small_plan
from worldenv.data.record import RecordConfig
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.eval.suites.evaluate import run_suite
from worldenv.models.codec import to_pixels
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.stages.registry import train
from worldenv.world.world import World


class Lane(gym.Env[Any, Any]):
    """A square in a dark lane; at the right end it turns white, is paid and over."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 24}  # noqa: RUF012
    action_space = gym.spaces.Dict({"go": gym.spaces.Discrete(2), "by": gym.spaces.Box(-1.0, 3.0, (1,))})
    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.x = render_mode, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(0, 6))
        return self.render(), {}

    def step(self, action: Any) -> Any:
        self.x = float(np.clip(self.x + 0.25 * action["go"] * action["by"][0], 0, 12))
        over = self.x >= 12
        return self.render(), float(over), over, False, {}

    def render(self) -> Any:
        frame = np.full((16, 16, 3), 30, np.uint8)
        frame[6:10, int(self.x) : int(self.x) + 4] = 120
        return np.full_like(frame, 250) if self.x >= 12 else frame


gym.register("test/Lane-v0", entry_point=Lane, disable_env_checker=True, max_episode_steps=60)


def recorded(folder: Path, spec: WorldSpec, *, clips: int, num_latents: int) -> Path:
    record_here(RecordConfig(env="test/Lane-v0", clips=clips, num_latents=num_latents, spec=spec), folder)
    return folder


def trained(out: Path, spec: WorldSpec, *, num_latents: int, head_steps: int = 60) -> Path:
    data = recorded(out / "recording", spec, clips=15, num_latents=num_latents)
    optim = OptimConfig(steps=5, batch=4, preview_every=0, save_every=1000, log_every=100)
    config = small_plan(data, name="lane", num_starts=8, optim=optim)
    train("vae", config, out / "vae")
    train("causal", replace(config, init=out / "vae"), out / "causal")
    optim = replace(config.optim, steps=head_steps, batch=16, lr=3e-3, warmup=5, preview_every=head_steps)
    train("heads", replace(config, init=out / "causal", optim=optim), out / "world")
    return out / "world"


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """Curves of a dozen figures take longer to draw than all that is learned here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldenv.training.loop.trainer.plot_losses", lambda log, path: None)
        yield


@pytest.fixture(scope="module")
def lane(no_plots: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = WorldSpec(chunk_latents=2)
    return trained(tmp_path_factory.mktemp("lane"), spec, num_latents=24)


def test_an_event_that_one_sees_is_learned_in_seconds(lane: Path) -> None:
    lines = [json.loads(line) for line in (lane / "log.jsonl").read_text().splitlines()]
    held_out = next(line for line in reversed(lines) if "reward_f1_truth" in line)
    assert held_out["terminated_f1_truth"] > 0.9
    assert held_out["reward_f1_truth"] > 0.9
    assert held_out["reward_error_truth"] < 0.1
    assert held_out["terminated_auc_truth"] > 0.95
    heads = World.load(lane).config.heads
    assert heads.reward is not None
    assert heads.terminated is not None
    assert (heads.reward.num_codes, heads.terminated.num_frames) == (3, 4)
    assert heads.terminated.scale != 1  # calibrated, on clips of its own


def test_it_is_an_environment_with_the_recorded_actions_and_limit(lane: Path) -> None:
    env = gym.make("worldenv/World-v0", world=str(lane))
    assert env.action_space == Lane.action_space
    assert env.observation_space == Lane.observation_space
    core = env.unwrapped.core  # type: ignore[attr-defined]
    assert core.config.max_episode_steps == 8  # 60 frames are 7 and a half chunks of 8
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is go, expected a dictionary of by, go"):
        env.step({"go": 1})
    with pytest.raises(ValueError, match=r"action\['go'\]: action \[2\] is outside Discrete"):
        env.step({"go": 2, "by": np.zeros(1, np.float32)})


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_vector_environments_give_what_the_heads_say(lane: Path, mode: str) -> None:
    envs = gym.make_vec("worldenv/World-v0", num_envs=3, world=str(lane), autoreset_mode=mode)
    _, info = envs.reset(seed=0)
    assert not {"reward", "terminated"} & info.keys()  # of a chunk's last latent they would contradict the step
    for _ in range(10):
        _, reward, terminated, _, info = envs.step(envs.action_space.sample())
        assert reward.shape == terminated.shape == (3,)
    core = envs.unwrapped.core  # type: ignore[attr-defined]
    assert list(core.spec.gives) == ["reward", "terminated"]
    shown = gym.make("worldenv/World-v0", world=str(lane), obs_mode="dict", obs_keys=["image", "reward", "terminated"])
    obs, _ = shown.reset(seed=0)
    assert shown.observation_space.contains(obs)


def test_a_white_picture_pays_and_ends_and_a_dark_one_does_not(lane: Path) -> None:
    """The world goes on from pictures that are shown to it, and its heads read those."""
    envs = gym.make_vec("worldenv/World-v0", num_envs=2, world=str(lane))
    envs.reset(seed=0)
    engine = envs.unwrapped.core.dynamics  # type: ignore[attr-defined]
    frames = torch.from_numpy(np.broadcast_to(Lane().render(), (2, 8, 16, 16, 3)).copy())
    frames[0, 4:] = 250
    commands = engine.spec.still(2).map(lambda part: part.expand(-1, 2, -1).clone())
    engine.observe(frames, commands)
    assert engine.present["terminated"].tolist() == [True, False]
    assert engine.present["reward"][0] > 0.8
    assert engine.present["reward"][1] == 0


def test_what_heads_remember_is_forked_cloned_and_checked(lane: Path) -> None:
    engine = Engine(World.from_pretrained(lane, dtype="float32"), 3)
    engine.reset(seeds=[4, 5, 6], starts=[0, 1, 2])
    right = Track(action=torch.tensor([0.0, 1.0, 0.5]).expand(3, 2, 3))
    for _ in range(2):
        engine.step(right)
    state = engine.clone_state([0])
    engine.fork([0], [1])
    trunk = engine.step(right).signals
    kept = engine.clone_state([0, 1, 2])
    names = [name for name in kept if name.startswith("events.")]
    assert len(names) == 4
    assert all(torch.equal(kept[name][0], kept[name][1]) for name in names)
    assert not torch.equal(kept["events.reward.state"][0], kept["events.reward.state"][2])
    engine.restore_state(state, [2])
    again = engine.step(right).signals
    assert all(torch.equal(engine.clone_state([2])[name][0], kept[name][0]) for name in names)
    assert all(torch.equal(again[name][2], trunk[name][0]) for name in ("reward", "terminated"))
    broken = dict(state) | {"events.reward.state": state["events.reward.state"] + 2}
    with pytest.raises(ValueError, match=r"events\.reward\.state holds what no episode has"):
        engine.restore_state(broken, [1])
    with pytest.raises(ValueError, match="is of a world without a head 'reward'"):
        engine.restore_state({name: part for name, part in state.items() if "events" not in name}, [1])
    before = engine.clone_state([1])["events.reward.state"]
    engine.reset(seeds=[7, 8, 9], starts=[0, 1, 2], mask=torch.tensor([True, False, False]))
    assert not engine.clone_state([0])["events.reward.state"].any()
    assert torch.equal(engine.clone_state([1])["events.reward.state"], before)


def test_its_twin_is_the_environment_itself(lane: Path) -> None:
    """Registered here, or passed; whatever else a file names is not imported."""
    for options in ({}, {"sim_env": Lane}):
        envs = gym.make_vec("worldenv/WorldSim-v0", num_envs=2, world=str(lane), **options)
        obs, _ = envs.reset(seed=[1, 2])
        first = Lane()
        assert (obs[0] == first.reset(seed=1)[0]).all()
        right = {"go": np.ones(2, np.int64), "by": np.full((2, 1), 3.0, np.float32)}
        rewards, ends = [], []
        for _ in range(2):
            obs, reward, terminated, _, _ = envs.step(right)
            rewards.append(float(reward[0]))
            ends.append(bool(terminated[0]))
        x, count = first.x, 0
        while first.x < 12:
            first.step({"go": 1, "by": [3.0]})
            count += 1
        assert (rewards, ends) == (([1.0, 0.0], [True, False]) if count <= 8 else ([0.0, 1.0], [False, True])), x
    world = World.load(lane)
    environment = replace(world.spec.environment, id="os:Nowhere-v0")  # type: ignore[type-var]
    world.config = replace(world.config, spec=replace(world.spec, environment=environment))
    with pytest.raises(ValueError, match=r"recorded from 'os:Nowhere-v0', which is not registered here.*sim_env="):
        gym.make_vec("worldenv/WorldSim-v0", num_envs=1, world=world)


def test_worlds_without_these_heads_say_how_to_get_them(tiny_world: World) -> None:
    with pytest.raises(ValueError, match=r"task World reads reward, terminated, and this world.*worldenv train heads"):
        gym.make("worldenv/World-v0", world=tiny_world)


def test_short_episodes_begin_at_recorded_moments(lane: Path) -> None:
    world = World.load(lane)
    assert world.moments is not None
    assert world.moments.latents.shape[1:] == (3, 4, 2, 2)  # a frame, and a chunk of 2 latents
    envs = gym.make_vec("worldenv/World-v0", num_envs=2, world=str(lane), horizon=3, autoreset_mode="Disabled")
    obs, _ = envs.reset(seed=0, options={"start": [3, 5]})
    np.testing.assert_array_equal(obs, world.moments.views[[3, 5], 0])
    engine = envs.unwrapped.core.dynamics  # type: ignore[attr-defined]
    assert engine.memory_chunks.tolist() == [2, 2]  # the frame and the chunk
    assert engine.clone_state([0])["events.reward.state"].any()  # the heads have seen them
    assert not engine.present["reward"].any()
    core = envs.unwrapped.core  # type: ignore[attr-defined]
    moves = engine.spec.still(2).map(lambda part: part.expand(-1, 2, -1).clone())
    cut = [core.advance(moves) for _ in range(3)]
    assert not cut[0].truncated.any()
    assert bool((cut[2].truncated | cut[2].terminated).all())
    for said, options in (
        ("horizon=3 is a limit already", {"horizon": 3, "max_episode_steps": 5}),
        ("horizon=3 is for generated worlds", {"horizon": 3, "dynamics": "sim"}),
    ):
        with pytest.raises(ValueError, match=said):
            gym.make_vec("worldenv/World-v0", num_envs=1, world=str(lane), **options)


def test_a_world_of_single_frames_is_trained_and_stepped(no_plots: None, tmp_path: Path) -> None:
    """A latent is a frame, a chunk is a latent: one acts on every frame, as in the environment."""
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    folder = trained(tmp_path, spec, num_latents=60, head_steps=40)
    world = World.load(folder)
    assert world.vae.config.frames_per_latent == 1  # type: ignore[union-attr]
    frames = torch.randint(0, 256, (1, 5, 16, 16, 3), dtype=torch.uint8)
    latents = world.vae.encode(to_pixels(frames))
    assert latents.shape == (1, 5, 4, 2, 2)
    torch.testing.assert_close(world.vae.encode(to_pixels(frames[:, 3:])), latents[:, 3:])  # each for itself
    envs = gym.make_vec("worldenv/World-v0", num_envs=2, world=str(folder), obs_mode="chunk")
    assert envs.unwrapped.core.config.max_episode_steps == 60  # type: ignore[attr-defined]
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (2, 1, 16, 16, 3)
    for _ in range(3):
        obs, *_ = envs.step(envs.action_space.sample())
    assert obs.shape == (2, 1, 16, 16, 3)
    twin = gym.make_vec("worldenv/WorldSim-v0", num_envs=2, world=str(folder))
    twin.reset(seed=0)
    steps = [twin.step({"go": np.ones(2, np.int64), "by": np.full((2, 1), 3.0, np.float32)}) for _ in range(16)]
    assert sum(step[2].astype(int) for step in steps).tolist() == [1, 1]  # once each, then a new episode
    assert sum(step[1] for step in steps).tolist() == [1.0, 1.0]


def test_heads_are_judged_on_true_decoded_and_generated_frames(lane: Path, tmp_path: Path) -> None:
    recording_of_it = lane.parent / "recording"
    run_suite("heads", str(lane), tmp_path, num_worlds=3, first_seed=12, recording=recording_of_it)
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["arms"]) == ["truth", "vae", "world"]
    truth = report["arms"]["truth"]
    assert truth["terminated_f1"]["mean"] > 0.9
    low, high = truth["terminated_auc"]["ci95"]
    assert low <= truth["terminated_auc"]["mean"] <= high
    assert truth["psnr"]["mean"] == 60 > report["arms"]["vae"]["psnr"]["mean"]
    assert report["events"]["terminated"] == report["events"]["reward"] > 0
    with pytest.raises(ValueError, match="pass --recording DIR"):
        run_suite("heads", str(lane), tmp_path)


@pytest.mark.parametrize(
    "name", ["x", ".", "", "a\nb", "x" * 5000, "no.module:X-v0", "os:sep", "/", ":", "CartPole-v999"]
)
def test_a_twin_that_is_none_is_told_in_a_line(name: str, bright: Path) -> None:
    with pytest.raises(ValueError, match="sim_env=") as error:
        gym.make_vec("worldenv/WorldSim-v0", num_envs=1, world=str(bright), sim_env=name)
    assert "\n" not in str(error.value)
