"""Recordings of a camera whose poses are known: RealEstate10K's lines beside each video, and folders of nerfstudio's.

Metres are those of the files, which for RealEstate10K are of each video's own; a world learns one scale at most. One
camera: its focal lengths may differ by a twentieth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...base.documents import read_table, read_text
from ...base.media import read_picture
from ...dynamics.environment import ActionPart
from ...geometry.trajectory_file import read_trajectory
from ..schema import Array
from ..spans import Span
from ..video import MAX_SIDE, Frame
from .videos import common_size, find_videos

FOCAL_SHARE = 0.05
"""By how much focal lengths may differ."""


class RealEstate10K:
    """A reader of a folder of videos with lines of time, intrinsics and pose beside each: ``walk.mp4``, ``walk.txt``.

    Raises:
        ValueError: naming the file, and the line, that cannot be learned from.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        if camera:
            raise ValueError(f"--camera {camera}: a folder of videos has one camera; leave it out")
        self.name = f"realestate10k:{path.resolve().name}"
        self.parts: tuple[ActionPart, ...] = ()
        self.notes: Sequence[str] = ()
        self.videos = find_videos(path)
        self.width, self.height, self.fps = common_size(self.videos)
        self.shown: list[Array] = []  # of each video: frames that have a line
        spans = []
        for number, video in enumerate(self.videos):
            lines = video.path.with_suffix(".txt")
            if not lines.is_file():
                raise ValueError(
                    f"{video.path}: no {lines.name} beside it, with a line of time and pose for each frame"
                )
            track = read_trajectory(lines)
            seconds = _seconds(lines)  # of the whole video, or of the stretch that was cut out of it
            frames = np.round((seconds - (0.0 if seconds[0] < len(video) / video.fps else seconds[0])) * video.fps)
            wrong = np.flatnonzero(~(np.diff(frames, prepend=-1) >= 1) | ~(frames < len(video)) | ~(seconds >= 0))
            if len(seconds) != len(track.c2w) or len(wrong):
                bad = int(wrong[0]) if len(wrong) else len(seconds)
                raise ValueError(
                    f"{lines}: line {bad} of poses is of no later frame of {video.path.name}, which has {len(video)}"
                )
            self.shown.append(frames.astype(np.int64))
            K = _pixels(track.K[0].numpy(), self.width, self.height)
            spans.append(Span(str(video.path), number, 0, len(frames), {}, track.c2w.numpy(), K))
        self.spans: Sequence[Span] = spans
        check_one_camera(spans)

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Decode the frames that have a line."""
        wanted = self.shown[span.episode][span.first + first : span.first + stop]
        video = self.videos[span.episode]
        for number, frame in enumerate(video.frames(int(wanted[0]), int(wanted[-1]) + 1), start=int(wanted[0])):
            if number in wanted:
                yield frame


class Nerfstudio:
    """A reader of folders with ``transforms.json`` (nerfstudio, DL3DV), whose frames are in the order of time.

    Raises:
        ValueError: naming the file, and the frame, that cannot be learned from.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        if camera:
            raise ValueError(f"--camera {camera}: these folders have one camera; leave it out")
        self.name, self.fps = f"nerfstudio:{path.resolve().name}", 0.0
        self.parts: tuple[ActionPart, ...] = ()
        self.notes: Sequence[str] = ()
        files = sorted(path.rglob("transforms.json"))
        if not files:
            raise ValueError(f"{path}: no transforms.json in it or below")
        self.pictures = [_picture_files(file) for file in files]
        self.height, self.width = self._read(0, 0).shape[:2]
        spans = []
        for number, (file, pictures) in enumerate(zip(files, self.pictures, strict=True)):
            track = read_trajectory(file)
            K = _pixels(track.K[0].numpy(), self.width, self.height)
            spans.append(Span(str(file), number, 0, len(pictures), {}, track.c2w.numpy(), K))
        self.spans: Sequence[Span] = spans
        check_one_camera(spans)

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Read some pictures."""
        for number in range(span.first + first, span.first + stop):
            frame = self._read(span.episode, number)
            if frame.shape[:2] != (self.height, self.width):
                size = f"{frame.shape[1]}x{frame.shape[0]}"
                raise ValueError(
                    f"{self.pictures[span.episode][number]}: {size}, others are {self.width}x{self.height}"
                )
            yield frame

    def _read(self, episode: int, number: int) -> Frame:
        file = self.pictures[episode][number]
        return read_picture(file.read_bytes(), what=str(file), most=MAX_SIDE)


def check_one_camera(spans: Sequence[Span]) -> None:
    """Refuse recordings of several cameras by the file of another one."""
    first = spans[0]
    for span in spans:
        assert span.K is not None
        assert first.K is not None
        if (abs(span.K[[0, 1], [0, 1]] / first.K[[0, 1], [0, 1]] - 1) > FOCAL_SHARE).any():
            raise ValueError(
                f"{span.name}: focal lengths {span.K[0, 0]:.1f}, {span.K[1, 1]:.1f} pixels, {first.name} has "
                f"{first.K[0, 0]:.1f}, {first.K[1, 1]:.1f}; import cameras apart from one another"
            )


def _pixels(K: Array, width: int, height: int) -> Array:
    """Return normalised intrinsics in pixels."""
    return K * np.array([[width], [height], [1.0]])


def _seconds(lines: Path) -> Array:
    """Return the moments of RealEstate10K's lines, which are in microseconds."""
    words = [line.split()[0] for line in read_text(lines).splitlines() if line.strip() and "http" not in line[:8]]
    try:
        return np.array([float(word) for word in words]) / 1e6
    except ValueError:
        raise ValueError(f"{lines}: not RealEstate10K's lines, which begin with a time each") from None


def _picture_files(file: Path) -> list[Path]:
    """Return the pictures of a ``transforms.json``, which lie beside it or below."""
    try:
        told = [str(frame["file_path"]) for frame in read_table(file)["frames"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not nerfstudio's transforms.json ({type(error).__name__}: {error})") from None
    found = [file.parent / name for name in told]
    for number, picture in enumerate(found):
        try:
            inside, there = picture.resolve().is_relative_to(file.parent.resolve()), picture.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # a name that is none, a link to itself
            raise ValueError(f"{file}: frame {number}: {told[number][:80]!r}: {str(error)[:80]}") from None
        if not inside:
            raise ValueError(f"{file}: frame {number}: {told[number]!r} leads out of the folder")
        if not there:
            raise ValueError(f"{file}: frame {number}: {picture} is not there")
    if not found:
        raise ValueError(f"{file}: no frames in it")
    return found
