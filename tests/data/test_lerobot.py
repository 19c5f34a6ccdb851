"""Datasets of LeRobot's format v3, in and out again, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.foreign import SIZE, write_lerobot
from tests.data.turntable import clips_of
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.dynamics.spec import WorldSpec

EVERY_FRAME = WorldSpec(frames_per_latent=1, chunk_latents=1)
ROWS = "data/chunk-000/file-000.parquet"


def asked(folder: Path, **changes: Any) -> RecordConfig:
    return replace(RecordConfig(env=f"lerobot:{folder}", num_latents=16, spec=EVERY_FRAME), **changes)


def test_a_dataset_is_recorded_frame_by_frame(in_process: None, tmp_path: Path) -> None:
    """Episodes of 20, 10 and 30 rows; the last is held out. Each ends with its reward, where its last picture stands."""
    actions = write_lerobot(tmp_path / "pusher", [20, 10, 30])
    record(asked(tmp_path / "pusher", num_latents=16), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert clip.frames.shape == (17, SIZE[1], SIZE[0], 3)
    levels = clip.frames[:, 0, 0, 0].astype(int)
    assert (abs(levels - (10 + 4 * np.arange(17))) <= 2).all()
    assert not clip.signals["action"][0].any()
    assert np.array_equal(clip.signals["action"][1:], actions[:16])  # what was done on the way to each frame
    spec = json.loads((tmp_path / "out" / "recording.json").read_text())["spec"]
    assert (spec["fps"], spec["environment"]["id"]) == (10, "lerobot:pusher")
    (part,) = spec["environment"]["actions"]
    assert part["kind"] == "box"
    assert np.allclose(part["low"], actions.min(0))
