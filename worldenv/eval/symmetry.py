"""Memory Symmetry as iWorld-Bench defines it: a clip out and back should show the same, mirrored in time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .image import Array, as_array

TOLERANCE = 1000.0
"""Mean squared error of 8-bit pixels that costs nothing (PSNR 18.1 dB)."""


def pair_scores(
    frames: Any,  # (..., T, H, W, 3) uint8
) -> Array:
    """Score every pair of mirrored frames, first with last first, (..., T // 2) in (0, 1]; 1 is alike.

    s = exp(-1e-4 max(MSE - 1000, 0)^1.1) on 8-bit values (iWorld-Bench). The middle frame of an odd T is left out.

    Raises:
        ValueError: if the frames are not uint8, or fewer than two.
    """
    array = as_array(frames)
    if array.dtype != np.uint8 or array.ndim < 4 or array.shape[-1] != 3:
        raise ValueError(f"frames are {array.dtype} {array.shape}; pass uint8 (..., T, H, W, 3)")
    half = array.shape[-4] // 2
    if not half:
        raise ValueError("one frame has no mirror; pass at least 2")
    first = array[..., :half, :, :, :].astype(np.float64)
    last = np.flip(array, -4)[..., :half, :, :, :].astype(np.float64)
    error = ((first - last) ** 2).mean((-3, -2, -1))
    scores: Array = np.exp(-1e-4 * np.maximum(error - TOLERANCE, 0) ** 1.1)
    return scores


def memory_symmetry(
    frames: Any,  # (..., T, H, W, 3) uint8
    *,
    variant: Literal["paper", "engine"] = "paper",
) -> Any:
    """Return the weighted mean of ``pair_scores``; a float for one clip.

    ``paper`` weighs a pair by exp(0.1 |i - (T - 1) / 2|), so that pairs far apart count most. ``engine`` does what the
    released evaluation does: the scores, mirrored to one per frame after the first, weighed by exp(0.2 k), so that the
    last frames decide. A frozen clip scores 1: report the motion beside it.
    """
    scores = pair_scores(frames)
    half = scores.shape[-1]
    count = int(np.shape(frames)[-4])
    if variant == "paper":
        weights = np.exp(0.1 * np.abs(np.arange(half) - (count - 1) / 2))
        values = scores
    elif variant == "engine":
        mirrored = np.concatenate(
            [scores, *([np.ones((*scores.shape[:-1], 1))] if count % 2 else []), np.flip(scores, -1)], -1
        )
        values, weights = mirrored[..., 1:], np.exp(0.2 * np.arange(1, count))
    else:
        raise ValueError(f"variant={variant!r}; choose 'paper' or 'engine'")
    result = (values * weights).sum(-1) / weights.sum()
    return float(result) if np.ndim(result) == 0 else result
