"""Hands are recorded to shards: by experts, noisy ones and none, the same whoever records them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.bodies.hand_model import HAND
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.data.schema import read_shard, shard_config, shard_paths
from worldenv.data.sources.hand import KINDS, wave

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
pytestmark = pytest.mark.manip


def test_clips_hold_what_the_hand_was_told_and_what_came_of_it(tmp_path: Path) -> None:
    config = RecordConfig(env="hand/lift", clips=2, clips_per_shard=2, num_latents=4, first_seed=3)
    assert record(config, tmp_path, workers=1) == 2 * 17
    clips = list(read_shard(shard_paths(tmp_path)[0]))
    for clip in clips:
        assert clip.frames.shape == (17, 64, 64, 3)
        assert clip.signals["depth"].shape == clip.signals["segmentation"].shape == (17, 64, 64)
        shapes = {name: clip.signals[name].shape for name in ("joints", "keypoints", "object", "target")}
        assert shapes == {"joints": (5, 26), "keypoints": (5, 21, 3), "object": (5, 13), "target": (5, 3)}
        HAND.check(torch.from_numpy(clip.signals["joints"]), what="joints")
        assert clip.attributes["kind"] in KINDS
    again = make_source(config).clip(1)
    np.testing.assert_array_equal(again.frames, clips[1].frames)
    assert list(shard_config(shard_paths(tmp_path)[0])["spec"]["takes"]) == ["joints"]


def test_hands_that_wave_begin_where_they_are_and_stay_within_their_joints() -> None:
    low, high = HAND.limits
    start = (low + high) / 2
    joints = wave(start, 24, np.random.default_rng(0))
    HAND.check(joints, what="joints")
    assert (joints[0] - start).abs().max() < (joints[3] - start).abs().max()
    assert joints.std(0).min() > 0.005
