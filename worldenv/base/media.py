"""Pictures, figures and videos as files: whole or not at all."""

from __future__ import annotations

import struct
import weakref
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image

from .files import check_place, replacing
from .said import named

Picture = npt.NDArray[np.uint8]
MOST_SIDE = 8192
"""Pixels of the longest side that is decoded."""
MOST_PIXELS = 2**25
"""Of a picture that is decoded."""
VIDEOS = (".mp4", ".mkv", ".mov", ".avi")
"""How the names of videos end."""
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, EOFError, SyntaxError, OverflowError, RuntimeError),
    *(AttributeError, MemoryError, NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What decoders raise of broken files."""


def save_picture(
    path: Path,
    picture: Picture,  # (H, W, 3)
) -> None:
    """Write a picture in the format of the file's suffix."""
    with replacing(path) as partial:
        iio.imwrite(partial, picture)


def read_picture(data: bytes, *, what: str, most: int = MOST_SIDE) -> Picture:
    """Decode a picture, (H, W, 3), whose sides are no longer than ``most``.

    Raises:
        ValueError: if it is none, several, or larger; before it is decoded.
    """
    try:
        told = iio.improps(data, plugin="pillow")
        if told.is_batch:
            raise ValueError(f"{told.n_images} pictures in one file")
        height, width = told.shape[:2]
        if max(height, width) > most or height * width > MOST_PIXELS:
            raise ValueError(f"{width}x{height} pixels; sides up to {most} and {MOST_PIXELS} in all are read")
        picture = np.asarray(iio.imread(data, plugin="pillow"))
    except _BROKEN as error:
        said = " ".join(str(error).replace(repr(data), "").split())[:200]
        raise ValueError(f"{what}: cannot be read as a picture ({said or type(error).__name__})") from None
    if picture.dtype == np.bool_:
        picture = 255 * picture.astype(np.uint8)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (2,), (3,), (4,)):
        raise ValueError(f"{what}: {picture.dtype} {picture.shape}, where colours are read")
    if picture.ndim == 2 or picture.shape[2] == 2:  # grey, and grey with how opaque it is
        picture = np.repeat(picture.reshape(*picture.shape[:2], -1)[..., :1], 3, 2)
    return np.ascontiguousarray(picture[..., :3])


def save_figure(path: Path, figure: Any, *, dpi: int = 100) -> None:
    """Write a figure of matplotlib in the format of the file's suffix."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi)


def check_video(path: Path) -> None:
    """Refuse a name that no video is written under, for those who make frames at length first.

    Raises:
        ValueError: saying what it may end in.
        OSError: if no file can be written there.
    """
    if path.suffix.lower() not in VIDEOS:
        raise ValueError(f"{named(path)}: a video's name ends in one of {', '.join(VIDEOS)}")
    check_place(path)


def save_video(
    path: Path,
    frames: Iterable[Picture],  # (H, W, 3) each
    *,
    fps: int,
    quality: int = 8,
) -> None:
    """Write a video."""
    with VideoWriter(path, fps=fps, quality=quality) as writer:
        writer.append(frames)


class VideoWriter:
    """A video that frames are appended to. The file is there when the writer is closed, or forgotten.

    Raises:
        ValueError: if the file's name is no video's.
    """

    def __init__(self, path: Path, *, fps: int, quality: int = 8) -> None:
        check_video(path)
        self.path, self.fps, self.quality = path, fps, quality
        self._video: _Video | None = None
        self._files = ExitStack()
        self._close = weakref.finalize(self, self._files.close)

    def append(
        self,
        frames: Iterable[Picture],  # (H, W, 3) each
    ) -> None:
        """Append frames.

        Raises:
            OSError: if they cannot be written.
        """
        for frame in frames:
            if self._video is None:
                partial = self._files.enter_context(replacing(self.path))
                self._video = self._files.enter_context(_Video(partial, self.fps, self.quality))
            self._video.append(frame)

    def close(self) -> None:
        """Finish the file; there is none without frames.

        Raises:
            OSError: if the file is not whole; then there is none.
        """
        self._close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._close.detach()
        self._files.__exit__(*error)


class _Video:
    """What ffmpeg is writing. It says nothing of a full disk, so the frames are read back and counted."""

    def __init__(self, path: Path, fps: int, quality: int) -> None:
        self.path, self.count = path, 0
        self.writer = imageio.get_writer(path, fps=fps, macro_block_size=1, quality=quality)

    def append(self, frame: Picture) -> None:
        try:
            self.writer.append_data(np.ascontiguousarray(frame))
        except (OSError, RuntimeError) as error:  # the latter if none could be started
            raise OSError(f"{self.path.name}: {str(error).partition(chr(10))[0]}") from None
        self.count += 1

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self.writer.close()
        if kind is None and _count_frames(self.path) != self.count:
            raise OSError(f"its {self.count} frames cannot be read back")


def _count_frames(path: Path) -> int:
    try:
        return int(imageio_ffmpeg.count_frames_and_secs(str(path))[0])
    except RuntimeError:
        return 0
