"""Do a world's views agree in space? Each is shown where another camera was, by its depth, and compared with that view.

No truth is needed, so that invented ground counts, too. What the other view has something in front of may well be
hidden there and is left out; what it looks through is not. Blur and emptiness agree with themselves: read it beside
contrast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..geometry.splat import splat
from .image import Array, decibels

GAPS = (1, 4, 16)
"""Latents between two views that are compared."""
HIDDEN = 0.15
"""Share of its distance by which another surface lies nearer where a point counts as hidden."""
LEAST_SHARE = 0.1
"""Share of a view that must be comparable for a pair to count."""


@torch.no_grad()
def reprojection(
    frames: Tensor,  # (B, F, H, W, 3) uint8
    depth: Tensor,  # (B, F, H, W) metres along z
    c2w: Tensor,  # (B, F, 4, 4)
    K: Tensor,  # (3, 3) pixels
    *,
    gaps: Sequence[int] = GAPS,
) -> dict[str, Array]:
    """Compare each view with the one ``gap`` earlier, shown where it is; NaN where no pair overlaps.

    Returns:
        By gap, each (B,): ``reprojection_psnr_GAP``, means over pairs in decibels, and ``reprojection_depth_GAP``,
        how far apart both put a surface, as a share of the distance.
    """
    result: dict[str, Array] = {}
    for gap in gaps:
        if gap >= frames.shape[1]:
            continue
        found = [_pairs(*row, K, gap=gap) for row in zip(frames, depth, c2w, strict=True)]
        psnr, off = (np.stack(part) for part in zip(*found, strict=True))
        for name, values in (("psnr", psnr), ("depth", off)):
            counts = ~np.isnan(values)
            sums = np.where(counts, values, 0.0).sum(1)
            result[f"reprojection_{name}_{gap}"] = np.where(counts.any(1), sums / np.maximum(counts.sum(1), 1), np.nan)
    return result


def _pairs(
    frames: Tensor,  # (F, H, W, 3) uint8
    depth: Tensor,  # (F, H, W)
    c2w: Tensor,  # (F, 4, 4)
    K: Tensor,
    *,
    gap: int,
) -> tuple[Array, Array]:
    """Return PSNR and relative distance of depth of every pair, (F - gap,) each, NaN where they hardly overlap."""
    pixels, depth = frames.movedim(-1, 1).float() / 255, depth.float()
    shown = splat(pixels[:-gap, None], depth[:-gap, None], c2w[:-gap, None], c2w[gap:, None], K)
    ratio = (depth[gap:] / shown.depth[:, 0]).log()  # -inf in holes, below 0 where the view has something nearer
    counts = shown.known[:, 0] & (ratio > -HIDDEN)
    error = (shown.colour[:, 0] - pixels[gap:]).square().mean(1)
    number = counts.sum((1, 2))
    enough = (number >= LEAST_SHARE * counts[0].numel()).numpy()
    mse = ((error * counts).sum((1, 2)) / number.clamp(min=1)).double().numpy()
    off = (ratio.abs().where(counts, 0.0).sum((1, 2)) / number.clamp(min=1)).double().numpy()
    return np.where(enough, decibels(mse), np.nan), np.where(enough, off, np.nan)
