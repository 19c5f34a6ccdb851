"""FID and FVD: how far the distribution of an arm's frames, or of its clips, is from the true ones.

Both are biased upwards for small sets, so they are refused below a size, and only values of equal size compare.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...base.checkpoint import load_module
from ...models.pretrained.archive import read_archive
from ..frechet import frechet_distance

NUM_FRAMES = 2048
"""Frames that FID needs at least, the width of its features: with fewer a covariance has no full rank."""
NUM_CLIPS = 256
"""Clips that FVD needs at least: as many as BAIR's test set has, the smallest on which it is commonly published."""
CLIP_LENGTH = 16
FVD_SIZE = 224
_FRAME_BATCH, _CLIP_BATCH = 32, 4


class Frechet:
    """The Frechet distance between features of an arm's frames or clips and of the true ones."""

    def __init__(
        self, features: Callable[[Tensor], Tensor], split: Callable[[Tensor], Tensor], *, least: int, batch: int
    ) -> None:
        """Cut trajectories with ``split``, take ``features`` in batches, and ask for ``least`` pieces on each side."""
        self.features, self.split, self.least, self.batch = features, split, least, batch

    def __call__(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        truth: Tensor,  # (B, T, H, W, 3) uint8
    ) -> float:
        """Return the distance.

        Raises:
            ValueError: if there are too few pieces.
        """
        sides = [self.split(x) for x in (frames, truth)]
        count = min(len(side) for side in sides)
        if count < self.least:
            raise ValueError(f"biased for small sets: {count} pieces, needs {self.least}; evaluate more worlds")
        a, b = (torch.cat([self.features(x) for x in side.split(self.batch)]) for side in sides)
        return frechet_distance(a, b)


def split_frames(
    frames: Tensor,  # (B, T, H, W, 3)
) -> Tensor:
    """Take every frame, (B T, H, W, 3)."""
    return frames.flatten(0, 1)


def split_clips(
    frames: Tensor,  # (B, T, H, W, 3)
) -> Tensor:
    """Cut trajectories into clips of 16 frames that do not overlap, dropping what is left; (N, 16, H, W, 3)."""
    whole = frames.shape[1] // CLIP_LENGTH * CLIP_LENGTH
    return frames[:, :whole].unflatten(1, (-1, CLIP_LENGTH)).flatten(0, 1)


def fid(weights: Path, *, device: torch.device | str = "cpu") -> Frechet:
    """Load Inception-v3 as torch-fidelity has it: TensorFlow's weights and resizing, 2048 features of pool3."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        # The library unpickles what it is given, so it is given a file written here.
        plain = Path(folder) / "inception.pth"
        torch.save(dict(read_archive(weights)), plain)
        network = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(plain)).to(device)

    @torch.no_grad()
    def features(frames: Tensor) -> Tensor:
        result: Tensor = network(frames.to(device).movedim(-1, 1).contiguous())[0]
        return result.cpu()

    return Frechet(features, split_frames, least=NUM_FRAMES, batch=_FRAME_BATCH)


def fvd(weights: Path, *, device: torch.device | str = "cpu") -> Frechet:
    """Load I3D as cd-fvd has it: 400 Kinetics logits of clips of 16 frames, 224 x 224 in [-1, 1]."""
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

    network = InceptionI3d(400, in_channels=3)
    load_module(network, read_archive(weights), where=weights.name)
    network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def features(clips: Tensor) -> Tensor:
        pixels = clips.to(device).movedim(-1, 2).flatten(0, 1).float()
        pixels = F.interpolate(pixels, size=(FVD_SIZE, FVD_SIZE), mode="bilinear", align_corners=False)
        videos = (pixels / 127.5 - 1).unflatten(0, (-1, CLIP_LENGTH)).transpose(1, 2)
        result: Tensor = network(videos)
        return result.cpu()

    return Frechet(features, split_clips, least=NUM_CLIPS, batch=_CLIP_BATCH)
