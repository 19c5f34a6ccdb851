"""Recorded tables as the object head sees them: frames, what was commanded, where the object really was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from ..base.log import track
from ..bodies.hand import Hand
from ..dynamics.spec import WorldSpec
from ..geometry.camera import seen_at
from .schema import Clip, read_shard, shard_paths


@dataclass(frozen=True)
class ObjectDataset:
    """Clips of one length, in memory."""

    frames: Tensor  # (N, T, H, W, 3) uint8
    truth: Tensor  # (N, F, 5) float32: position, speed, and 1 where the hand touches it
    keypoints: Tensor  # (N, F, K, 2) float32: where the hand's are in the picture, -1..1

    @classmethod
    def load(
        cls,
        folder: Path,
        spec: WorldSpec,
        *,
        max_clips: int | None = None,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> ObjectDataset:
        """Read a recording, with every clip (T, H, W, 3) uint8 put ``through`` something first.

        Raises:
            ValueError: if the recording does not say where objects are, or its clips differ in length.
        """
        paths = shard_paths(folder)
        wanted = ("frames", "object", "contact", "keypoints")
        shards = (read_shard(path, only=wanted) for path in track(paths, "reading objects", total=len(paths)))
        frames, truth, points = [], [], []
        for clip in islice(chain.from_iterable(shards), max_clips):
            shown = torch.from_numpy(clip.frames)
            frames.append(shown if through is None else through(shown))
            truth.append(object_truth(clip))
            points.append(seen_keypoints(torch.from_numpy(clip.signals["keypoints"]), spec))
        if len({len(part) for part in frames}) > 1:
            raise ValueError(f"{folder}: clips differ in length; record them with one num_latents")
        return cls(*(torch.stack(part) for part in (frames, truth, points)))

    def __len__(self) -> int:
        return len(self.frames)

    def windows(
        self,
        clips: Tensor,  # (B,)
        first: Tensor,  # (B,) latents that windows begin with
        num_latents: int,
        frames_per_latent: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cut windows: frames of each latent behind the one before, (B, F, T + 1, H, W, 3), the truth, and keypoints.

        What comes before a clip's first frame is that frame again.
        """
        index = first[:, None] + torch.arange(num_latents)
        shown = frames_per_latent * index[..., None] + torch.arange(-frames_per_latent, 1)
        rows = clips[:, None]
        return (
            self.frames[rows[..., None], shown.clamp(min=0)],
            self.truth[rows, index],
            self.keypoints[rows, index],
        )


def object_truth(clip: Clip) -> Tensor:
    """Return where the object is at the end of each latent, how fast, and whether it is touched, (F, 5) float32.

    Raises:
        ValueError: if the recording does not say.
    """
    if not {"object", "contact"} <= clip.signals.keys():
        raise ValueError("this recording does not say where objects are; heads of hands learn from `--env hand/...`")
    thing, contact = (torch.from_numpy(clip.signals[name]).float() for name in ("object", "contact"))
    speed = thing[:, 7:10].norm(dim=-1, keepdim=True)
    return torch.cat([thing[:, :3], speed, contact.any(-1, keepdim=True).float()], 1)


def seen_keypoints(
    points: Tensor,  # (..., K, 3) metres, the table's frame
    spec: WorldSpec,
) -> Tensor:
    """Return where the hand's keypoints are in the picture of the head's camera, (..., K, 2), -1..1 over its sides."""
    camera = Hand().view(spec)
    assert camera is not None
    return seen_at(points, camera)


def behind(
    frames: Tensor,  # (T, H, W, 3) of a whole clip
    frames_per_latent: int,
) -> Tensor:
    """Return each latent's frames behind the one before, (F, frames + 1, H, W, 3); before the first lies itself."""
    count = 1 + (len(frames) - 1) // frames_per_latent
    index = frames_per_latent * torch.arange(count)[:, None] + torch.arange(-frames_per_latent, 1)
    return frames[index.clamp(min=0)]
