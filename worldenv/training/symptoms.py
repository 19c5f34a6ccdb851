"""What tells early that a distillation goes wrong: measured in the pictures of every preview, with a word when it does.

Distribution matching is known to fail by collapse and over-saturation (Self-Forcing, arXiv 2506.08009), by motion that
fades with too many updates, by textures at the period of patches, and in first chunks, for which few steps are too few.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.log import console
from ..base.psnr import psnr_of

BOUNDS = {
    "contrast": (0.9, 1.1, "blurred, as collapsed to a mean", "over-saturated: the critic lags, or too many updates"),
    "contrast_growth": (-0.1, 0.1, "fades from chunk to chunk", "saturates from chunk to chunk"),
    "motion": (0.7, 1.3, "freezes: too many updates", "flickers"),
    "grid": (0.0, 1.5, "", "a texture at the period of patches"),
    "first_chunk_db": (-1.5, math.inf, "the first chunk is worse than the others", ""),
    "length_db": (-1.5, 1.5, "worse after short histories", "worse after long histories"),
}
"""Lowest and highest value that is well, and what it means to lie below or above."""


def symptoms(
    made: Tensor,  # (B, T, 3, H, W) in [-1, 1], whole chunks
    truth: Tensor,  # the same
    *,
    chunk_frames: int,
    period: int,  # pixels of a patch
) -> dict[str, float]:
    """Compare generated with true frames: contrast and its growth, motion, energy at the patch period, first chunk."""
    contrast = (made.std((2, 3, 4)) / truth.std((2, 3, 4))).unflatten(1, (-1, chunk_frames)).mean((0, 2))
    mse = (made - truth).square().mean((2, 3, 4)).unflatten(1, (-1, chunk_frames)).mean(2)
    psnr = psnr_of(mse, peak=2).mean(0)
    return {
        "contrast_growth": float(contrast[-1] - contrast[0]),
        "motion": float(made.diff(dim=1).abs().mean() / truth.diff(dim=1).abs().mean()),
        "grid": float((_at_period(made, period) / _at_period(truth, period)).amax()),
        "first_chunk_db": float(psnr[0] - psnr[1:].mean()) if len(psnr) > 1 else 0.0,
    }


def _at_period(frames: Tensor, period: int) -> Tensor:
    """Return the power along rows at a period and its harmonics, relative to that beside them, (harmonics,)."""
    power = torch.fft.rfft(frames.float(), dim=-1).abs().square().mean((0, 1, 2, 3))
    bins = torch.arange(1, period // 2 + 1) * (frames.shape[-1] // period)
    bins = bins[bins < len(power) - 1]
    return 2 * power[bins] / (power[bins - 1] + power[bins + 1])


def warn(figures: dict[str, float], name: str) -> None:
    """Say what is out of bounds among figures that end in ``_NAME``."""
    for symptom, (low, high, below, above) in BOUNDS.items():
        value = figures.get(f"{symptom}_{name}")
        if value is not None and not low <= value <= high:
            console.print(f"        {name}: {symptom} {value:.3g}, {below if value < low else above}")
