"""Gymnasium environments as sources of clips: what is recorded of them, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.data.turntable import GYM, Turntable, clips_of
from worldenv.data import record as recording
from worldenv.data.record import record
from worldenv.data.schema import read_shard, shard_paths
from worldenv.data.sources.gym import GymSource
from worldenv.dynamics.spec import WorldSpec


def test_a_gym_env_with_poses(in_process: None, tmp_path: Path) -> None:
    frames = record(GYM, tmp_path)
    clips = clips_of(tmp_path)
    assert frames == 5 * 17
    assert [len(list(read_shard(p))) for p in shard_paths(tmp_path)] == [2, 2, 1]
    for index, clip in enumerate(clips):
        assert clip.frames.shape == (17, 16, 24, 3)
        assert {"c2w", "K"} <= clip.signals.keys()
        assert clip.signals["c2w"].shape == (5, 4, 4)
        assert clip.signals["c2w"][:3, 2, 3].tolist() == [0, 4, 8]
        assert clip.attributes["seed"] == 20 + index
        assert clip.attributes["poses"] == "info"
        assert (np.diff(clip.frames[:9, 0, 0, 0].astype(int)) == 1).all()
    assert len({clip.frames.tobytes() for clip in clips}) == 5


def test_a_gym_env_without_poses(in_process: None, tmp_path: Path) -> None:
    record(dataclasses.replace(GYM, env="test/TurntableBlind-v0", clips=1), tmp_path)
    (clip,) = clips_of(tmp_path)
    assert not {"c2w", "K"} & clip.signals.keys()
    assert clip.attributes["poses"] == "absent"
    spec = json.loads((tmp_path / "recording.json").read_text())["spec"]
    assert list(spec["takes"]) == ["action"]
    assert spec["gives"] == {}
    assert clip.frames.shape == (17, 16, 24, 3)


def test_episodes_that_end_are_marked_and_restarted(in_process: None, tmp_path: Path) -> None:
    """The env ends at step 10, in latent 3 of a chunk of 4, which its last picture fills; then the next one begins."""
    record(dataclasses.replace(GYM, clips=1, num_latents=6), tmp_path)
    (clip,) = clips_of(tmp_path)
    assert clip.signals["terminated"].tolist() == [False, False, False, True, False, False, False]
    assert clip.signals["reward"].tolist() == [0, 4, 4, 2, 0, 0, 4]
    assert clip.signals["c2w"][:, 2, 3].tolist() == [0, 4, 8, 10, 10, 0, 4]
    assert clip.signals["is_first"].tolist() == [True, False, False, False, False, True, False]
    first, second = clip.episodes()
    assert (first.num_latents, second.num_latents) == (5, 2)
    assert (len(first.frames), len(second.frames)) == (17, 5)
    assert (np.diff(second.frames[:, 0, 0, 0].astype(int)) == 1).all()  # its start view once, then four frames
    assert second.signals["K"].shape == (3, 3)


def test_one_frame_a_latent(in_process: None, tmp_path: Path) -> None:
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    blind = dataclasses.replace(GYM, env="test/TurntableBlind-v0", clips=1, num_latents=16, spec=spec)
    record(blind, tmp_path / "frames")
    (clip,) = clips_of(tmp_path / "frames")
    assert clip.frames.shape == (17, 16, 24, 3)
    assert clip.num_latents == 17
    assert [episode.num_latents for episode in clip.episodes()] == [11, 6]
    with pytest.raises(ValueError, match="worlds with a camera have frames_per_latent=4"):
        record(dataclasses.replace(blind, env=GYM.env), tmp_path / "poses")


def test_pictures_are_resized_and_are_observations_where_those_are_some(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Turntable, "size", (30, 41))
    record(dataclasses.replace(GYM, clips=1, size=(32, 24)), tmp_path / "small")
    (clip,) = clips_of(tmp_path / "small")
    assert clip.frames.shape[1:] == (24, 32, 3)
    assert (np.diff(clip.frames[:9, 0, 0, 0].astype(int)) == 1).all()


@pytest.mark.parametrize(("reward", "said"), [(float("nan"), "gave the reward nan"), (1.0, None)])
def test_rewards_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, reward: float, said: str) -> None:
    monkeypatch.setattr(Turntable, "step", lambda self, action: (0, reward, False, False, self._info()))
    source = GymSource("test/Turntable-v0", 4, 0)
    if said:
        with pytest.raises(ValueError, match=said):
            source.clip(0)
    else:
        assert source.clip(0).signals["reward"].sum() == 16


def test_actions_that_cannot_be_embedded_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talker(Turntable):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.action_space = gym.spaces.Dict({"say": gym.spaces.Text(8)})

    with monkeypatch.context() as patched:
        patched.setitem(gym.registry, "test/Talker-v0", gym.envs.registration.EnvSpec("test/Talker-v0", Talker))
        with pytest.raises(ValueError, match=r"test/Talker-v0: actions of Text.* under 'say' cannot be embedded"):
            GymSource("test/Talker-v0", 4, 0)


def test_unknown_environments_list_the_simulators() -> None:
    with pytest.raises(ValueError, match=r"doom/maze, doom/freedoom"):
        GymSource("nobody/Knows-v0", 4, 0, known=tuple(recording.SOURCES))


def test_environments_without_pictures_are_refused(in_process: None, tmp_path: Path) -> None:
    source = GymSource("test/Turntable-v0", 4, 0)
    for render in (lambda: None, functools.partial(gym.Env.render, source.env.unwrapped)):  # which is not implemented
        source.env.unwrapped.render = render  # type: ignore[method-assign, assignment]
        with pytest.raises(ValueError, match="let it render rgb_array, or wrap it to observe pictures"):
            source.clip(0)


@pytest.mark.parametrize(
    ("size", "changes", "said"),
    [
        ((210, 160), {}, "Turntable-v0 shows 160x210 frames; no stage trains on sides .* of 8: .* to, 160x208"),
        ((16, 24), {"num_latents": 3}, "num_latents=3: no stage trains on clips this short; pass 4"),
        (
            (16, 24),
            {"spec": WorldSpec(width=32, height=24)},
            r"shows 24x16 frames, \[spec\] says 32x24; leave the size",
        ),
    ],
)
def test_what_no_stage_trains_on_is_refused_before_it_is_recorded(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], changes: Any, said: str
) -> None:
    monkeypatch.setattr(Turntable, "size", size)
    with pytest.raises(ValueError, match=said):
        record(dataclasses.replace(GYM, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_without_three_colours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Turntable, "render", lambda self: np.zeros((16, 24, 4), np.uint8))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8, got uint8 \(16, 24, 4\)"):
        GymSource("test/Turntable-v0", 4, 0)


def test_a_gym_recording_says_what_it_shows_and_takes(
    in_process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(GYM, tmp_path)
    written = json.loads((tmp_path / "recording.json").read_text())["spec"]
    assert (written["width"], written["height"]) == (24, 16)
    assert written["takes"]["action"]["shape"] == [3]
    assert "24x16 frames; a world of it takes action (3,), c2w (4, 4)" in capsys.readouterr().err
    for clip in clips_of(tmp_path):
        assert clip.signals["action"].shape == (5, 3)
        assert not clip.signals["action"][0].any()  # nothing led to the start view
        assert (clip.signals["action"][1:].sum(1) == 1).all()  # one-hot


def test_ids_that_a_module_registers_are_gymnasiums() -> None:
    """``module:Id-v0`` is an environment, ``module:Class`` someone's source."""
    made = recording.make_source(dataclasses.replace(GYM, env="tests.data.test_record:test/Turntable-v0"))
    assert isinstance(made, GymSource)
    with pytest.raises(ValueError, match="unknown environment 'no_such:Thing-v0'"):
        recording.make_source(dataclasses.replace(GYM, env="no_such:Thing-v0"))
