"""Recordings of what was played, and votes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from worldenv.bodies.vector import ACTION, action_signal, describe_actions
from worldenv.data.dataset import clip_track
from worldenv.data.schema import read_shard
from worldenv.dynamics.environment import Environment
from worldenv.dynamics.spec import WorldSpec
from worldenv.play.picture import fit_picture
from worldenv.play.preference import summarise, wilson
from worldenv.play.recording import Played, make_clip, save_played
from worldenv.play.server.shown import read_picture

SPEC = WorldSpec(width=32, height=24, chunk_latents=2)
AHEAD = np.array([1, 0, 0, 0, 0], np.float32)


def played(count: int, spec: WorldSpec, **signals: Any) -> Played:
    latents = 1 + count * spec.chunk_latents
    frames = np.random.default_rng(0).integers(0, 256, (4 * latents - 3, spec.height, spec.width, 3), np.uint8)
    return Played(arm="memory", frames=frames, signals=signals, rewards=[0.5] * count)


def walked(count: int) -> np.ndarray[Any, Any]:
    """Poses of a walk whose second chunk was stopped by a wall."""
    c2w = np.eye(4)[None].repeat(1 + 2 * count, 0)
    c2w[1:, 2, 3] = np.minimum(np.arange(1, 1 + 2 * count), 2) * SPEC.steps.move
    return c2w


def test_what_was_played_is_a_clip_that_training_reads(tmp_path: Path) -> None:
    one = played(2, SPEC, c2w=walked(2))
    arms = [one, replace(one, arm="none")]
    save_played(tmp_path, arms, [AHEAD, AHEAD], mode="camera", spec=SPEC, world="maze", seed=3)
    (clip,) = read_shard(tmp_path / "none" / "shard-00000.h5")
    track = clip_track(clip, SPEC)
    assert track["keys"][:, 0].tolist() == [0, 1, 1, 1, 1]
    assert np.array_equal(track["c2w"].numpy(), walked(2))  # where one got to
    assert clip.signals["c2w_commanded"][-1, 2, 3] == pytest.approx(4 * SPEC.steps.move)  # where one meant to
    assert clip.signals["reward"].tolist() == [0, 0, 0.5, 0, 0.5]
    assert clip.attributes["seed"] == 3
    video = iio.imread(tmp_path / "video.mp4")
    assert video.shape[:1] + video.shape[2:] == (len(one.frames), 2 * 256, 3)


def test_actions_of_a_recorded_environment_are_recorded_as_they_were() -> None:
    parts = tuple(replace(part, mean=(5.0,), scale=(2.0,)) for part in describe_actions(gym.spaces.Box(-9, 9, (1,))))
    spec = replace(
        SPEC,
        takes={ACTION: action_signal(parts)},
        gives={},
        environment=Environment(id="Some-v0", actions=parts, max_episode_steps=0),
    )
    clip = make_clip(played(2, spec), [np.float32([3]), np.float32([-4])], mode="vector", spec=spec, seed=0)
    assert clip.signals[ACTION][1:, 0].tolist() == [3, 3, -4, -4]
    assert clip_track(clip, spec)[ACTION][1:, 0].tolist() == [-1, -1, -4.5, -4.5]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"frames": np.zeros((3, 24, 32, 3), np.uint8)}, "2 actions show"),
        ({"signals": {"c2w": walked(1)}}, "2 actions lead to 5 latents"),
        ({"rewards": []}, "rewards: 2 actions"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    wrong = replace(played(2, SPEC, c2w=walked(2)), **changed)
    with pytest.raises(ValueError, match=said):
        save_played(tmp_path, [wrong], [AHEAD, AHEAD], mode="camera", spec=SPEC, world="maze", seed=0)
    assert not list(tmp_path.iterdir())


def test_a_picture_of_any_shape_is_cropped_before_it_is_scaled() -> None:
    for height, width in ((1, 2**17), (2**17, 1), (1, 1), (24, 32), (48, 64), (100, 64)):
        picture = torch.arange(3, dtype=torch.uint8).expand(height, width, 3)
        fitted = fit_picture(picture, SPEC)
        assert (fitted == picture[:1, :1]).all()
        assert fitted.shape == (24, 32, 3)
    picture = torch.randint(0, 256, (24, 40, 3), dtype=torch.uint8)
    assert torch.equal(fit_picture(picture, SPEC), picture[:, 4:36])  # its middle, as it is


def test_a_picture_is_as_large_as_is_read_at_most_before_it_is_decoded() -> None:
    for size in ((2**17, 1), (2**12 + 1, 2**12)):
        file = io.BytesIO()
        Image.new("1", size).save(file, format="png")
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels"):
            read_picture(file.getvalue()[:100], SPEC)  # its head is enough


def test_votes_are_counted_for_the_arm_whichever_side_it_had() -> None:
    votes = [
        {"one": "b", "other": "a", "question": "picture", "preferred": "a"},
        {"one": "a", "other": "b", "question": "picture", "preferred": "a"},
        {"one": "a", "other": "b", "question": "control", "preferred": "same"},
    ]
    control, picture = summarise(votes)
    assert (picture["one"], picture["for_one"], picture["share_one"]) == ("a", 2, 1.0)
    assert (control["same"], control["share_one"]) == (1, 0.5)


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
