"""Quantities of VBench (Huang et al. 2024) on a trajectory alone: consistency over time, quality of each picture.

All of them reward a world that stands still; read them next to how much it moves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...base.checkpoint import load_module
from ...models.pretrained.archive import read_archive
from ...models.pretrained.encoders import Encoder, load_clip, load_dino
from ..image import Array

BATCH = 32
LONGEST = 512
"""Longer side, in pixels, above which VBench shrinks frames before MUSIQ."""


def consistency(
    features: Tensor,  # (B, T, D)
) -> Array:
    """Return how alike frames are to the one before and to the first, (B,).

    Mean over t >= 1 of (max(0, cos(f_t, f_t-1)) + max(0, cos(f_t, f_0))) / 2.

    Raises:
        ValueError: if there are fewer than 2 frames.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise ValueError(f"features have shape {tuple(features.shape)}, expected (B, T, D) with T >= 2")
    unit = F.normalize(features.double(), dim=-1)
    before, first = ((unit[:, 1:] * other).sum(-1).clamp(min=0) for other in (unit[:, :-1], unit[:, :1]))
    result: Array = ((before + first) / 2).mean(1).cpu().numpy()
    return result


class Consistency:
    """``consistency`` on an encoder's features of each frame."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __call__(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        truth: Tensor | None = None,
    ) -> Array:
        """Return one value a trajectory, (B,)."""
        features = torch.cat([self.encoder(batch) for batch in frames.flatten(0, 1).split(BATCH)])
        return consistency(features.unflatten(0, frames.shape[:2]))


def subject_consistency(config: Path, weights: Path, *, device: torch.device | str = "cpu") -> Consistency:
    """Load DINO ViT-B/16 from the folder of these files."""
    assert config.parent == weights.parent
    return Consistency(load_dino(weights.parent, device=device))


def background_consistency(config: Path, weights: Path, *, device: torch.device | str = "cpu") -> Consistency:
    """Load CLIP ViT-B/32 from the folder of these files."""
    assert config.parent == weights.parent
    return Consistency(load_clip(weights.parent, device=device))


class ImagingQuality:
    """MUSIQ's score of each frame (SPAQ weights, 0..100), the mean over frames divided by 100 once.

    VBench divides once on one device and twice on several; one division is what it publishes.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], *, device: torch.device | str = "cpu") -> None:
        """Score with a model of pixels (N, 3, H, W) in 0..1."""
        self.model, self.device = model, device

    @torch.no_grad()
    def __call__(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        truth: Tensor | None = None,
    ) -> Array:
        """Return one value a trajectory, (B,)."""
        scores = [self.model(self._prepare(batch)).flatten() for batch in frames.flatten(0, 1).split(BATCH)]
        result: Array = torch.cat(scores).double().view(frames.shape[:2]).mean(1).div(100).cpu().numpy()
        return result

    def _prepare(self, frames: Tensor) -> Tensor:
        pixels = frames.to(self.device).movedim(-1, 1).float()
        height, width = pixels.shape[-2:]
        longer = max(height, width)
        if longer > LONGEST:
            target = (int(LONGEST / longer * height), int(LONGEST / longer * width))
            pixels = F.interpolate(pixels, size=target, mode="bilinear", align_corners=False, antialias=False)
        return pixels / 255


def imaging_quality(weights: Path, *, device: torch.device | str = "cpu") -> ImagingQuality:
    """Load MUSIQ; pyiqa has the architecture, the file is read without unpickling."""
    from pyiqa.archs.musiq_arch import MUSIQ

    model: Any = MUSIQ(pretrained=False)
    tensors = {key.removeprefix("module."): tensor for key, tensor in read_archive(weights).items()}
    load_module(model, tensors, where=weights.name)
    return ImagingQuality(model.to(device).eval().requires_grad_(False), device=device)
