from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from worldenv.base.media import VideoWriter, save_figure, save_picture, save_video

FRAMES = np.random.default_rng(0).integers(0, 256, (17, 96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.png"])
def test_a_video_has_a_videos_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"name ends in one of \.mp4, "):
        save_video(tmp_path / "deep" / name, FRAMES, fps=24)
    assert not list(tmp_path.iterdir())


def test_pictures_and_videos_are_read_back(tmp_path: Path) -> None:
    save_picture(tmp_path / "deep" / "x.png", FRAMES[0])
    save_video(tmp_path / "deep" / "x.mp4", FRAMES, fps=24)
    assert (iio.imread(tmp_path / "deep" / "x.png") == FRAMES[0]).all()
    assert iio.imread(tmp_path / "deep" / "x.mp4").shape == FRAMES.shape
    assert iio.immeta(tmp_path / "deep" / "x.mp4")["fps"] == 24
    assert len(list((tmp_path / "deep").iterdir())) == 2


@pytest.mark.parametrize("room", [0, 5_000, 100_000], ids=["none", "a little", "more"])
def test_a_video_on_a_full_disk_is_an_error_and_no_file(tmp_path: Path, full_disk: Any, room: int) -> None:
    """ffmpeg tells nobody: what it left was taken for a video."""
    with full_disk(room), pytest.raises(OSError, match=r"x\.mp4: could not be written .*; is the disk full") as error:
        save_video(tmp_path / "x.mp4", np.concatenate([FRAMES] * 4), fps=24)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_figure_on_a_full_disk_is_an_error_and_no_file(tmp_path: Path, full_disk: Any) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()  # pyplot's backend may be anybody's
    with full_disk(1000), pytest.raises(OSError, match=r"x\.png: could not be written"):
        save_figure(tmp_path / "x.png", figure)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_forgotten_finishes_its_file(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "x.mp4", fps=24)
    writer.append(FRAMES[:5])
    assert not (tmp_path / "x.mp4").exists()
    del writer
    assert len(iio.imread(tmp_path / "x.mp4")) == 5


def test_a_writer_without_frames_writes_nothing(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "x.mp4", fps=24).close()
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_half_way_is_none(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from FRAMES[:3]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        save_video(tmp_path / "x.mp4", frames(), fps=24)
    assert not list(tmp_path.iterdir())


def test_a_video_without_anything_to_write_it_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found. Install ffmpeg on your system")

    monkeypatch.setattr("imageio_ffmpeg._io.get_ffmpeg_exe", none)
    with pytest.raises(OSError, match="No ffmpeg exe"):
        save_video(tmp_path / "walk.mp4", np.zeros((2, 16, 16, 3), np.uint8), fps=4)
    assert not [*tmp_path.iterdir()]
