"""Videos without actions: the camera's motion is measured, and stretches that cannot be believed are dropped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldenv
from tests.data.foreign import pictures, write_video
from tests.data.turntable import clips_of
from worldenv.base.checkpoint import load_tensors
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.data.sources.unlabelled import believable, cut_to, runs


def asked(folder: Path, **changes: Any) -> RecordConfig:
    return replace(RecordConfig(env=f"unlabelled:{folder}", num_latents=4, size=(32, 24)), **changes)


def test_a_still_camera_is_labelled_and_noise_dropped(
    in_process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A view held for 41 frames of a video, whose wider sides are cut off, with noise for 16 behind it."""
    view = load_tensors(Path(worldenv.__file__).parent / "worlds" / "maze" / "starts.safetensors")[0]["frames"][
        0
    ].numpy()
    wide = np.concatenate([np.zeros_like(view[:, :8]), view, np.zeros_like(view[:, :8])], 1)
    noise = np.random.default_rng(0).integers(0, 256, (16, *wide.shape), dtype=np.uint8)
    write_video(tmp_path / "walks" / "a.mp4", np.concatenate([np.repeat(wide[None], 41, 0), noise]), fps=24)
    record(asked(tmp_path / "walks"), tmp_path / "out")
    assert "dropped of 14 latents: 4 doubtful, 0 erratic, 0 too short" in capsys.readouterr().err.replace("\n", " ")
    clips = clips_of(tmp_path / "out")
    assert [clip.frames.shape for clip in clips] == [(17, 24, 32, 3)] * 2
    assert (tmp_path / "walks" / "a.motion.npz").is_file()  # measured once
    for clip in clips:
        assert np.allclose(clip.signals["c2w"], np.eye(4), atol=0.02)
        assert clip.signals["K"][0, 0] == pytest.approx(16)  # 90 degrees wide
    kept = tmp_path / "walks" / "a.motion.npz"
    labels = dict(np.load(kept))
    np.savez(kept, **labels | {"doubt": labels["doubt"] + 9})
    with pytest.raises(ValueError, match="dropped of 14 latents: 14 doubtful"):
        make_source(asked(tmp_path / "walks"))
    for wrong in ({"motion": labels["motion"][:-1]}, {"motion": 2 * labels["motion"]}, {"doubt": np.array("x")}):
        np.savez(kept, **labels | wrong)
        with pytest.raises(ValueError, match=r"a\.motion\.npz: .*; delete it, and motion is measured again"):
            make_source(asked(tmp_path / "walks"))
    np.savez(kept, **labels)
    spec = make_source(asked(tmp_path / "walks")).shown_as  # type: ignore[attr-defined]
    assert [*spec.takes] == ["keys", "c2w"]
    assert spec.environment is None


def test_jumps_and_doubts_cut_a_video_into_stretches() -> None:
    motion = torch.eye(4, dtype=torch.float64).repeat(10, 1, 1)
    doubt = torch.zeros(10, 2, dtype=torch.float64)
    motion[4, 0, 3], doubt[8, 0] = 3.0, 2.0
    good, why = believable(motion, doubt)
    assert np.flatnonzero(why["erratic"]).tolist() == [4, 5]  # the jump, and the change behind it
    assert np.flatnonzero(why["doubtful"]).tolist() == [8]
    assert list(runs(good)) == [(0, 4), (6, 2), (9, 1)]
    assert (cut_to(64, 36, 4 / 3), cut_to(30, 40, 4 / 3)) == ((48, 36), (30, 22))


def test_a_video_in_which_nothing_can_be_believed_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pictures(21) * 0)
    with pytest.raises(ValueError, match=r"no frames are left; dropped of 5 latents: 5 doubtful"):
        make_source(asked(tmp_path))
