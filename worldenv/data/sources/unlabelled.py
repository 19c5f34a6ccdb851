"""A folder of videos without actions: how the camera moved is measured in the pictures (``models.motion``).

As WorldPlay labels its videos (supplement B) in form: poses by a network, stretches dropped in which they collapse,
keys read off the rest. The network knows the camera it was trained on: pictures are cut to its shape, metres are its
metres. Whether it is to be believed it says itself: what it sees forwards, backwards and mirrored must be one motion.
Labels are kept beside each video, ``walk.motion.npz``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.arrays import read_npz
from ...base.files import file_sha256, save_arrays
from ...base.log import track
from ...dynamics.environment import ActionPart
from ...dynamics.spec import FRAMES_PER_LATENT
from ...geometry.pose import chain, compose, is_rigid, orthonormal, rotation_angle
from ...models.codec import to_pixels
from ...models.motion import PoseNet, four_ways, load_pose, packaged_pose
from ...sims.gym import resized
from ..schema import Array
from ..spans import Span
from ..video import Frame, Video
from .videos import common_size, find_videos

DOUBT_DEG, DOUBT_M = 0.6, 0.04
"""By how much the four measurements of a motion may differ (root mean square): on true frames of held-out mazes 99 of
100 differ by less than 0.37 degrees and 0.03 m, on noise all by more than this."""
JUMP_DEG, JUMP_M = 30.0, 1.0
"""Motion of a latent beyond which poses are said to have collapsed; so is such a change from one latent to the next."""
LEAST_LATENTS = 4
"""Latents of a stretch that is kept."""
MOST_BYTES = 2**26
"""Of the labels of a video; a million latents take as many."""
WINDOW = 32
"""Frames that are measured together."""


class Unlabelled:
    """A reader of such a folder.

    Raises:
        ValueError: naming the video that cannot be read, or if nothing in any can be believed.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        if camera:
            raise ValueError(f"--camera {camera}: a folder of videos has one camera; leave it out")
        self.name = f"unlabelled:{path.resolve().name}"
        self.parts: tuple[ActionPart, ...] = ()
        self.videos, net = find_videos(path), load_pose(packaged_pose())
        width, height, self.fps = common_size(self.videos)
        self.width, self.height = cut_to(width, height, net.config.width / net.config.height)
        self.left, self.top = (width - self.width) // 2, (height - self.height) // 2
        K = net.config.K.numpy() * np.array([[self.width / net.config.width]] * 2 + [[1.0]])
        spans, dropped = [], {"doubtful": 0, "erratic": 0, "too short": 0}
        for number, video in enumerate(track(self.videos, "measuring motion", total=len(self.videos))):
            motion, doubt = self._labels(video, net)
            good, why = believable(motion, doubt)
            for name in ("doubtful", "erratic"):
                dropped[name] += int(why[name].sum())
            for first, count in runs(good):
                if count < LEAST_LATENTS:
                    dropped["too short"] += count
                    continue
                c2w = chain(torch.eye(4, dtype=torch.float64)[None], motion[None, first : first + count])[0].numpy()
                frames = FRAMES_PER_LATENT * count + 1
                held = np.minimum(-(-np.arange(frames) // FRAMES_PER_LATENT), count)  # a latent's frames have its pose
                spans.append(Span(str(video.path), number, FRAMES_PER_LATENT * first, frames, {}, c2w[held], K))
        self.spans: Sequence[Span] = spans
        total = sum((len(video) - 1) // FRAMES_PER_LATENT for video in self.videos)
        said = ", ".join(f"{count} {name}" for name, count in dropped.items())
        self.notes: Sequence[str] = (f"dropped of {total} latents: {said}",)

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Decode some frames, cut to the network's shape."""
        for frame in self.videos[span.episode].frames(span.first + first, span.first + stop):
            yield self._cut(frame)

    def _cut(self, frame: Frame) -> Frame:
        return frame[self.top : self.top + self.height, self.left : self.left + self.width]

    def _labels(self, video: Video, net: PoseNet) -> tuple[Tensor, Tensor]:
        """Return the motion of every latent (F, 4, 4), and by how much its measurements differ, (F, 2)."""
        kept, state = video.path.with_suffix(".motion.npz"), video.path.stat()
        of = f"{state.st_size} {state.st_mtime_ns} {file_sha256([packaged_pose()])}"
        if kept.is_file():
            try:
                if read_npz(kept, "of", most=MOST_BYTES, kinds="U").item() == of:
                    return _read_labels(kept, (len(video) - 1) // FRAMES_PER_LATENT)
            except ValueError as error:
                raise ValueError(f"{error}; delete it, and motion is measured again") from None
        size = net.config.width, net.config.height
        ends = [
            resized(self._cut(frame), *size)
            for number, frame in enumerate(video.frames(0, len(video)))
            if not number % FRAMES_PER_LATENT
        ]
        motion, doubt = measured(net, np.stack(ends))
        save_arrays(kept, {"motion": motion.numpy(), "doubt": doubt.numpy(), "of": np.array(of)})
        return motion, doubt


def _read_labels(kept: Path, count: int) -> tuple[Tensor, Tensor]:
    """Return what was measured of so many latents; a ValueError if it is none."""
    motion, doubt = (torch.from_numpy(read_npz(kept, name, most=MOST_BYTES)).double() for name in ("motion", "doubt"))
    if motion.shape != (count, 4, 4) or doubt.shape != (count, 2) or not is_rigid(motion) or not (doubt >= 0).all():
        raise ValueError(f"{kept}: holds no motion of {count} latents")
    return motion, doubt


def cut_to(width: int, height: int, shape: float) -> tuple[int, int]:
    """Return width and height of the largest part of a picture with this width over height."""
    return (round(height * shape), height) if width > height * shape else (width, round(width / shape))


def measured(
    net: PoseNet,
    ends: Array,  # (1 + F, H, W, 3) uint8, a latent apart
) -> tuple[Tensor, Tensor]:
    """Return motions (F, 4, 4), and how far their measurements are apart, in degrees and metres, (F, 2)."""
    motions, doubts = [torch.zeros(0, 4, 4, dtype=torch.float64)], [torch.zeros(0, 2, dtype=torch.float64)]
    for first in range(0, len(ends) - 1, WINDOW):
        ways = four_ways(net, to_pixels(torch.from_numpy(ends[first : first + WINDOW + 1]))[None])[:, 0]
        mean = ways.mean(0)
        mean = compose(orthonormal(mean[:, :3, :3]), mean[:, :3, 3])
        turns = rotation_angle(mean[:, :3, :3].mT @ ways[..., :3, :3]).rad2deg()
        moves = (ways - mean)[..., :3, 3].norm(dim=-1)
        motions.append(mean)
        doubts.append(torch.stack([turns, moves], -1).pow(2).mean(0).sqrt())
    return torch.cat(motions), torch.cat(doubts)


def believable(
    motion: Tensor,  # (F, 4, 4)
    doubt: Tensor,  # (F, 2)
) -> tuple[Array, dict[str, Array]]:
    """Tell which latents are kept, (F,) bool, and which are not for what reason."""
    doubtful = (doubt > torch.tensor([DOUBT_DEG, DOUBT_M])).any(1)
    limits = motion.new_tensor([JUMP_DEG, JUMP_M])
    turn, move = rotation_angle(motion[:, :3, :3]).rad2deg(), motion[:, :3, 3].norm(dim=-1)
    changed = torch.zeros(len(motion), 2, dtype=motion.dtype)
    changed[1:, 0] = rotation_angle(motion[:-1, :3, :3].mT @ motion[1:, :3, :3]).rad2deg()
    changed[1:, 1] = (motion[1:, :3, 3] - motion[:-1, :3, 3]).norm(dim=-1)
    erratic = ((torch.stack([turn, move], 1) > limits) | (changed > limits)).any(1) & ~doubtful
    return (~(doubtful | erratic)).numpy(), {"doubtful": doubtful.numpy(), "erratic": erratic.numpy()}


def runs(good: Array) -> Iterator[tuple[int, int]]:
    """Yield first and number of latents in a row that are good."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for first, stop in edges.reshape(-1, 2):
        yield int(first), int(stop - first)
