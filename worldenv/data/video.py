"""Videos by number of frame: their size and frames are known before any picture is decoded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base.objects import import_extra
from ..base.said import check_file

Frame = npt.NDArray[np.uint8]
MAX_SIDE = 8192
"""Pixels of the longest side that is decoded."""


@dataclass(frozen=True)
class Video:
    """A video file and the moments of its frames, in order."""

    path: Path
    width: int
    height: int
    fps: float
    moments: tuple[int, ...]
    """Of every frame, in units of the stream."""

    def __len__(self) -> int:
        return len(self.moments)

    def frames(self, first: int, stop: int) -> Iterator[Frame]:
        """Decode frames ``first`` to ``stop``, each (H, W, 3).

        Raises:
            ValueError: naming the file and the frame: one that cannot be decoded, or has another size.
        """
        if first >= stop:
            return
        wanted, shown = self.moments[first:stop], first
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # processes share the cores already
            container.seek(wanted[0], stream=stream)
            try:
                for frame in container.decode(stream):
                    if frame.pts is None or frame.pts < wanted[0]:
                        continue
                    if (frame.width, frame.height) != (self.width, self.height):
                        size, now = f"{self.width}x{self.height}", f"{frame.width}x{frame.height}"
                        raise ValueError(f"{self.path}: frame {shown} is {now}, those before it {size}")
                    if frame.pts != self.moments[shown]:
                        break
                    yield frame.to_ndarray(format="rgb24")
                    shown += 1
                    if shown == stop:
                        return
            except _errors() as error:
                raise ValueError(f"{self.path}: frame {shown} cannot be decoded ({error})") from None
        raise ValueError(f"{self.path}: frame {shown} of {len(self)} cannot be decoded; is the file whole?")

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """Return the first frame that is shown from second ``begin`` on, and the one from ``end`` on."""
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            base, start = float(stream.time_base), stream.start_time or 0
        half = 0.5 / self.fps if self.fps else 0.0
        first, stop = (bisect_left(self.moments, (second - half) / base + start) for second in (begin, end))
        return first, stop


def open_video(path: Path) -> Video:
    """Read what a video says of itself, and count its frames.

    Raises:
        ValueError: if it is no video, holds no frames, or frames that are too large.
    """
    state = check_file(path).stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _read(path: Path, modified: int, size: int) -> Video:
    with _opened(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: there are no pictures in it")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError(f"{path}: its pictures are in no format that is known here")
        width, height = stream.codec_context.width, stream.codec_context.height
        if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            raise ValueError(f"{path}: frames of {width}x{height}; sides up to {MAX_SIDE} pixels are read")
        try:
            packets = [packet for packet in container.demux(stream) if packet.size]
        except _errors() as error:
            raise ValueError(f"{path}: cannot be read to its end ({error})") from None
        told, rate = stream.frames, stream.average_rate
    if not packets:
        raise ValueError(f"{path}: no frame can be read; is the file whole?")
    moments = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(moments) < len(packets) or len(set(moments)) < len(moments):
        raise ValueError(f"{path}: its frames have no moments of their own; write it again as .mp4")
    if told and len(moments) < told:
        raise ValueError(f"{path}: ends after {len(moments)} of {told} frames; copy it again")
    return Video(path, width, height, float(rate or 0), tuple(moments))


def _opened(path: Path) -> Any:
    av = import_extra("av", extra="data", needs="videos are read with PyAV")
    try:
        # a playlist fetches nothing, and texts beside the pictures may be in any encoding
        return av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (_errors(), ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a video ({error}); is the file whole?") from None


def _errors() -> Any:
    return import_extra("av", extra="data", needs="videos are read with PyAV").FFmpegError
