"""One command from an environment to a world, on one of a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from tests.data.foreign import write_lerobot
from tests.making.conftest import TINY
from worldenv.base.log import JsonlLog
from worldenv.data.sources.gym import GymSource
from worldenv.dynamics.spec import WorldSpec
from worldenv.making import make as making
from worldenv.making.config import STAGES, world_name
from worldenv.making.distil import lost_in
from worldenv.world.world import World

BLINK = '''
import gymnasium as gym, numpy as np

class Blink(gym.Env):
    """Grey, darker or lighter as one says; white is paid and over."""
    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level = int(self.np_random.integers(2, 7))
        return self.show(), {}

    def step(self, action):
        self.level = max(0, self.level + (-1, 0, 2)[action])
        return self.show(), float(self.level >= 10), self.level >= 10, False, {}

    def show(self):
        return np.full((16, 16, 3), min(250, 25 * self.level), np.uint8)

gym.register("Blink-v0", Blink, max_episode_steps=40)

def up(frame, space, generator):
    return 2
'''


@contextmanager
def at_once(count: int, **_: object) -> Iterator[ThreadPoolExecutor]:
    """Record in this process: those that ``test_example`` starts import all anew."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def blink(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "blinking.py").write_text(BLINK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("worldenv.data.record.worker_pool", at_once)
    return "blinking:Blink-v0"


def test_an_environment_becomes_a_world_and_a_run_goes_on_where_it_was(
    blink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(making, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            making.make(blink, TINY, out)
    made = {"train", "heldout", "latents", *STAGES, "world-1", "agent-2", "causal-2", "heads-2", "world", "make.json"}
    assert {p.name for p in out.iterdir()} == made | {"consistency_distill-2", "distil.json", "eval"}
    verdict = json.loads((out / "distil.json").read_text())
    assert {"psnr", "reward_f1", "terminated_f1"} == set(verdict["before"])
    assert verdict["passed"] == (lost_in(verdict["before"], verdict["distilled"]) == [])
    assert World.load(out / "world").config.sampler.num_steps == (2 if verdict["passed"] else 4)
    asked = json.loads((out / "train" / "round-2" / "recording.json").read_text())
    assert asked["policy"] == f"ppo:{out / 'agent-2'}"  # who learned in the world of the first round
    assert asked["first_seed"] == 4  # behind the clips of the first
    trained_on = [stage.data for stage in World.load(out / "world").config.provenance]
    assert len(set(trained_on)) == 2, trained_on
    doubt = World.load(out / "world").config.doubt
    assert min(doubt.latents, doubt.reward, doubt.terminated, doubt.limit) > 0
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    making.make(blink, TINY, out)
    assert {path: path.stat().st_mtime_ns for path in written} == written  # nothing was made again
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["heads"]) == {"truth", "vae", "world"}
    assert -1 <= summary["heads"]["world"]["uncertainty_pictures_same_age"] <= 1
    assert set(summary["decisions_per_s"]) == {"1", "16"}
    envs = gym.make_vec("worldenv/World-v0", num_envs=2, world=str(out / "world"))
    envs.reset(seed=0)
    envs.step(np.array([0, 2]))
    assert envs.single_action_space == gym.spaces.Discrete(3)
    with pytest.raises(ValueError, match="was begun with another frames; use the same, or another --out"):
        making.make(blink, replace(TINY, frames=512), out)
    making.Plan.load(out, blink, replace(TINY, workers=2))  # changes nothing


def test_more_hours_go_on_with_the_same_transformer(
    blink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(making, "evaluate", lambda out: {"psnr": {}, "heads": {}, "decisions_per_s": {}})
    out, short = tmp_path / "out", replace(TINY, rounds=1, few_steps=0)
    making.make(blink, short, out)
    before = {name: (out / name / "world.toml").read_text() for name in ("vae", "causal", "heads", "world")}
    per_step = 3600 * [line for line in JsonlLog.read(out / "causal" / "log.jsonl") if "hours" in line][-1]["hours"] / 2
    longer = replace(short, hours=short.hours + 5.5 * per_step / 3600 / 0.85)
    with monkeypatch.context() as patch:  # interrupted as it goes on
        patch.setattr(making, "train", lambda *_, **__: pytest.fail("train"))
        with pytest.raises(pytest.fail.Exception):
            making.make(blink, longer, out)
    capsys.readouterr()
    making.make(blink, longer, out)
    assert "step 2 of 7," in capsys.readouterr().err
    assert [line["step"] for line in JsonlLog.read(out / "causal" / "log.jsonl") if "loss" in line][-1] == 7
    after = {name: (out / name / "world.toml").read_text() for name in before}
    assert after["vae"] == before["vae"]
    assert all(after[name] != before[name] for name in ("causal", "heads", "world"))
    assert (out / "world-before" / "world.toml").read_text() == before["world"]
    with pytest.raises(ValueError, match="was begun with another hours; longer ones go on, use the same"):
        making.make(blink, short, out)
    with pytest.raises(ValueError, match="was begun with another frames"):
        making.make(blink, replace(longer, hours=2 * longer.hours, frames=512), out)


def test_a_distilled_world_that_blurs_what_happens_is_not_taken() -> None:
    before = {"psnr": 20.0, "reward_f1": 0.8}
    assert lost_in(before, {"psnr": 19.8, "reward_f1": 0.76}) == []
    assert lost_in(before, {"psnr": 21.0, "reward_f1": 0.7}) == ["reward_f1"]
    assert lost_in(before, {"psnr": 21.0}) == ["reward_f1"], "a head that never says anything has no F1"
    assert lost_in({"psnr": 20.0}, {"psnr": 19.6, "reward_f1": 0.9}) == ["psnr"]


def test_a_world_is_called_as_what_it_is_made_of(tmp_path: Path) -> None:
    names = {"blinking:Blink-v0": "blink-v0", "ALE/Pong-v5": "pong-v5", f"lerobot:{tmp_path}/": tmp_path.name.lower()}
    assert {env: world_name(env) for env in names} == names


def test_what_nothing_can_be_made_of_is_refused_at_once(blink: str, tmp_path: Path) -> None:
    (tmp_path / "other" / "vae").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds vae of something else; use another --out"):
        making.make(blink, TINY, tmp_path / "other")
    with pytest.raises(ValueError, match="unknown environment 'blinking:Blank-v0'"):
        making.make("blinking:Blank-v0", TINY, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="doom/maze is a simulator of ours"):
        making.make("doom/maze", TINY, tmp_path / "maze")
    with pytest.raises(ValueError, match="seed=900 reaches into the clips that are held out"):
        replace(TINY, seed=900)


def test_recordings_from_elsewhere_have_to_be_enough_and_tell_how_to_get_more(quick: None, tmp_path: Path) -> None:
    write_lerobot(tmp_path / "few", [40] * 3)
    few, once = f"lerobot:{tmp_path / 'few'}", replace(TINY, rounds=1)
    for said, env, config in (
        ("32 frames to hold out, at least 64 are needed; every tenth episode, or the last", few, once),
        ("rounds=2: nobody can act in lerobot:", few, TINY),
        (f"{tmp_path / 'none'}: no such folder", f"lerobot:{tmp_path / 'none'}", once),
        ("lerobot:: give a folder, lerobot:DIR", "lerobot:", once),
    ):
        with pytest.raises(ValueError, match=said):
            making.make(env, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_lerobot(tmp_path / "more", [100] * 4)
    there = making._check_source(f"lerobot:{tmp_path / 'more'}", once)
    assert there == 9  # of three episodes, in clips of 32 frames
    assert "--frames 288, which is all of it" in making._more(there, once)[0]
    assert "more episodes in the recording" in making._more(there, replace(once, frames=288))[0]


def test_whose_policy_acts_while_it_is_recorded(blink: str) -> None:
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    for policy, same in (("blinking:up", 1.0), ("sticky", 0.75), ("random", 0.0)):
        source = GymSource(blink, 200, 0, spec=spec, policy=policy)
        signals = source.clip(0).signals
        acted = signals["action"][~signals["is_first"]].argmax(1)
        assert abs((acted[1:] == acted[:-1]).mean() - (same + (1 - same) / 3)) < 0.1
    with pytest.raises(ValueError, match=r"unknown policy 'stick'.*did you mean 'sticky'"):
        GymSource(blink, 200, 0, policy="stick")
