"""Recordings of a camera with poses: RealEstate10K's and nerfstudio's, in, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from tests.data.foreign import SIZE, pictures, turning, write_video
from tests.data.turntable import clips_of
from worldenv.data.record import RecordConfig, make_source, record


def write_realestate(folder: Path, *, focal: float = 0.5) -> None:
    """Every second of 41 frames has a line."""
    write_video(folder / "a.mp4", pictures(41))
    lines = ["https://example.org/watch?v=a"]
    for number, c2w in zip(range(0, 41, 2), turning(21), strict=True):
        w2c = np.linalg.inv(c2w)[:3].ravel()
        lines.append(" ".join(map(repr, [number * 100_000, focal, 0.75, 0.5, 0.5, 0.0, 0.0, *w2c.tolist()])))
    (folder / "a.txt").write_text("\n".join(lines))


def write_nerfstudio(folder: Path) -> None:
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = []
    for number, (frame, c2w) in enumerate(zip(pictures(21), turning(21), strict=True)):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        iio.imwrite(folder / "images" / f"{number:03d}.png", frame)
        frames.append({"file_path": f"images/{number:03d}.png", "transform_matrix": (c2w @ flip).tolist()})
    told = {"w": SIZE[0], "h": SIZE[1], "fl_x": 24.0, "fl_y": 24.0, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(told))


@pytest.mark.parametrize(("kind", "write"), [("realestate10k", write_realestate), ("nerfstudio", write_nerfstudio)])
def test_poses_and_keys_are_recorded(
    in_process: None, tmp_path: Path, kind: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "walk")
    record(RecordConfig(env=f"{kind}:{tmp_path / 'walk'}", num_latents=5), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    levels = clip.frames[:, 0, 0, 0].astype(int)
    step = 2 if kind == "realestate10k" else 1
    assert (abs(levels - pictures(41)[: 21 * step : step, 0, 0, 0]) <= 2).all()
    assert np.allclose(clip.signals["c2w"], turning(21)[::4], atol=1e-6)
    assert np.allclose(clip.signals["K"], [[24, 0, 24], [0, 24, 16], [0, 0, 1]])
    assert (clip.signals["keys"][1:] == [1, 1]).all()  # forward, turning right
    spec = json.loads((tmp_path / "out" / "recording.json").read_text())["spec"]
    assert spec["steps"]["turn_deg"] == pytest.approx(4.0)
    assert [*spec["takes"]] == ["keys", "c2w"]


def _told(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "transforms.json").read_text())
        change(told)
        (folder / "transforms.json").write_text(json.dumps(told))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "images" / "004.png").unlink(), "transforms.json: frame 4: .*004.png is not there"),
        (_told(lambda t: t["frames"][3].update(file_path="../../x.png")), "frame 3: .* leads out of the folder"),
        (_told(lambda t: t["frames"][3].update(transform_matrix=np.ones((4, 4)).tolist())), "rotation of entry 3"),
        (lambda f: (f / "images" / "000.png").write_bytes(b"no"), "000.png: cannot be read as a picture"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_file_and_frame(
    tmp_path: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    write_nerfstudio(tmp_path / "walk")
    spoil(tmp_path / "walk")
    with pytest.raises(ValueError, match=said):
        make_source(RecordConfig(env=f"nerfstudio:{tmp_path / 'walk'}", num_latents=5))


def test_videos_that_are_shorter_than_their_lines_and_other_cameras_are_refused(tmp_path: Path) -> None:
    write_realestate(tmp_path / "walks" / "one")
    write_realestate(tmp_path / "walks" / "two", focal=0.8)
    asked = RecordConfig(env=f"realestate10k:{tmp_path / 'walks'}", num_latents=5)
    with pytest.raises(ValueError, match=r"focal lengths 38\.4, 24\.0 pixels"):
        make_source(asked)
    write_video(tmp_path / "walks" / "two" / "a.mp4", pictures(30))
    with pytest.raises(ValueError, match=r"a\.txt: line 15 of poses is of no later frame of a.mp4, which has 30"):
        make_source(asked)
