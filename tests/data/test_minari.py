"""Minari's datasets as Minari writes them, in and out again, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from tests.data.foreign import pictures
from tests.data.turntable import clips_of
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.dynamics.spec import WorldSpec

ACTIONS = gym.spaces.Dict({"gear": gym.spaces.Discrete(3, start=-1), "steer": gym.spaces.Box(-1.0, 1.0, (1,))})
FILE = "main_data.hdf5"


def write_minari(folder: Path, lengths: list[int], *, jpeg: bool = False, space: gym.Space[Any] | None = None) -> Any:
    """Write a dataset of pictures under ``top``; return all actions."""
    folder.mkdir()
    seen = gym.spaces.Dict({"top": gym.spaces.Box(0, 255, (32, 48, 3), np.uint8), "at": gym.spaces.Box(-1, 1, (2,))})
    storage = MinariStorage.new(folder, seen, space or ACTIONS, jpeg_encoding=jpeg)
    rng, done = np.random.default_rng(0), []
    for number, length in enumerate(lengths):
        gear, steer = rng.integers(-1, 2, length), rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        last = np.arange(length) == length - 1
        storage.update_episodes(
            [
                EpisodeBuffer(
                    id=number,
                    observations={"top": list(pictures(length + 1)), "at": np.zeros((length + 1, 2), np.float32)},
                    actions={"gear": gear, "steer": steer} if space is None else gear,
                    rewards=last.astype(float).tolist(),
                    terminations=last.tolist(),
                    truncations=[False] * length,
                )
            ]
        )
        done.append((gear, steer))
    return done


def asked(folder: Path, **changes: Any) -> RecordConfig:
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    return replace(RecordConfig(env=f"minari:{folder}", num_latents=20, spec=spec), **changes)


@pytest.mark.parametrize("jpeg", [False, True])
def test_a_dataset_is_recorded(in_process: None, tmp_path: Path, jpeg: bool) -> None:
    (gear, steer), *_ = write_minari(tmp_path / "drive", [20, 10], jpeg=jpeg)
    record(asked(tmp_path / "drive"), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert (abs(clip.frames.astype(int) - pictures(21)) <= (3 if jpeg else 0)).all()
    actions = clip.signals["action"]
    assert np.array_equal(actions[1:, :3].argmax(1) - 1, gear)
    assert np.array_equal(actions[1:, 3:], steer)
    assert clip.signals["reward"].tolist() == [0] * 20 + [1]
    assert clip.signals["terminated"][-1]


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with h5py.File(folder / FILE, "a") as file:
            made = change(file[f"episode_1/{name}"][()])
            del file[f"episode_1/{name}"]
            file[f"episode_1/{name}"] = made

    return spoil


def _link(folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["rewards"] = np.zeros(10)
    with h5py.File(folder / FILE, "a") as file:
        del file["episode_1/rewards"]
        file["episode_1/rewards"] = h5py.ExternalLink("other.h5", "rewards")


def _of_nothing(folder: Path) -> None:
    """Let an episode be over before anything is done, as those are that are only reset."""
    for name in ("actions/gear", "actions/steer", "rewards", "terminations", "truncations"):
        _change(name, lambda values: values[:0])(folder)
    _change("observations/top", lambda values: values[:1])(folder)


def _say(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps(told | values))

    return spoil


def _nan(values: Any) -> Any:
    values[4] = np.nan
    return values


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_change("rewards", _nan), "main_data.hdf5, episode_1: row 4: rewards is nan"),
        (_change("actions/steer", _nan), r"episode_1: row 4: episode_1/actions/steer is \[nan\]"),
        (_change("actions/gear", lambda v: v + 1), r"episode_1: row \d: episode_1/actions/gear is 2, outside of its"),
        (
            _change("rewards", lambda v: v[:-1]),
            "11 observations and 10 actions, reward 9; there is one observation more",
        ),
        (_change("observations/top", lambda v: v[:-1]), "10 observations and 10 actions"),
        (_change("observations/top", lambda v: v[:, :16]), "frames of 48x16, observation_space says 48x32"),
        (_change("observations/top", lambda v: v.astype(np.float32)), "pictures are float32; uint8 is read"),
        (_change("terminations", lambda v: v | True), "row 0 ends the episode, and it goes on"),
        (_link, "episode_1/rewards is a link; only what the file itself holds is read"),
        (lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:5000]), "main_data.hdf5: cannot be read"),
        (_say(data_format="arrow"), "data_format is not hdf5"),
        (_say(observation_space='{"type": "Discrete", "n": 2}'), "no observation is a picture"),
        (_of_nothing, "episode_1: no actions, so there is nothing to learn from it"),
        (
            _change("actions/gear", lambda v: v + 0.5),
            r"episode_1: row 0: episode_1/actions/gear is .*; choices are whole",
        ),
        (_say(action_space='{"type": "Discrete", "n": true}'), "action_space: no space .*True.* is no whole number"),
        (_say(action_space='{"type": "MultiDiscrete", "nvec": [2, true], "dtype": "int64"}'), "is no whole number"),
        (_say(action_space='{"type": "Text", "max_length": 3}'), "actions of Text cannot be embedded"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_file_and_row(
    tmp_path: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    write_minari(tmp_path / "drive", [20, 10])
    spoil(tmp_path / "drive")
    with pytest.raises(ValueError, match=said):
        make_source(asked(tmp_path / "drive"))
