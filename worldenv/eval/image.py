"""Picture fidelity by its published definitions (skimage computes them), in float64, for arrays or tensors.

uint8 is 0..255, float is 0..1. Means run over image axes and frames; leading batch axes are returned, a float for one
clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import structural_similarity

from ..base.psnr import psnr_of

PSNR_CAP = 60.0
Array = npt.NDArray[np.float64]


def as_array(values: Any) -> Array:
    """Return a tensor of any device, or what NumPy understands, as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def as_unit(
    frames: Any,  # (..., T, H, W, 3)
) -> Array:
    """Convert frames to float64 in 0..1.

    Raises:
        ValueError: on NaN, values outside 0..1 or a wrong shape.
    """
    array = as_array(frames)
    if array.ndim < 4 or array.shape[-1] != 3:
        raise ValueError(f"frames have shape {array.shape}, expected (..., T, H, W, 3)")
    if array.dtype == np.uint8:
        return array.astype(np.float64) / 255
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"frames have dtype {array.dtype}; pass uint8 (0..255) or float (0..1)")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError("float frames must be finite and within 0..1; uint8 frames within 0..255")
    return array.astype(np.float64)


def decibels(mse: Array) -> Array:
    """Return the PSNR of squared errors on 0..1, capped at 60."""
    result: Array = psnr_of(torch.as_tensor(mse, dtype=torch.float64)).clamp(max=PSNR_CAP).numpy()
    return result


def frame_psnr(a: Any, b: Any) -> Array:
    """Return the PSNR of each frame in dB, capped at 60; (..., T)."""
    x, y = _pair(a, b)
    mse = ((x - y) ** 2).mean((-3, -2, -1))
    return decibels(mse)


def psnr(a: Any, b: Any) -> Any:
    """Return the mean over frames of the PSNR in dB (each capped at 60)."""
    return mean_over_frames(frame_psnr(a, b))


def frame_ssim(a: Any, b: Any) -> Array:
    """Return the structural similarity of each frame: Gaussian window 11 (sigma 1.5), K1 .01, K2 .03; (..., T)."""
    x, y = _pair(a, b)
    flat_x, flat_y = (v.reshape(-1, *v.shape[-3:]) for v in (x, y))
    values = [
        structural_similarity(
            p, q, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1
        )
        for p, q in zip(flat_x, flat_y, strict=True)
    ]
    return np.asarray(values).reshape(x.shape[:-3])


def ssim(a: Any, b: Any) -> Any:
    """Return the mean over frames of the structural similarity."""
    return mean_over_frames(frame_ssim(a, b))


def frame_contrast(a: Any, b: Any) -> Array:
    """Return how much of the reference's contrast is there in each frame, std(a) / std(b); (..., T)."""
    x, y = _pair(a, b)
    ratio: Array = x.std((-3, -2, -1)) / np.maximum(y.std((-3, -2, -1)), 1e-6)
    return ratio


def contrast_ratio(a: Any, b: Any) -> Any:
    """Return the mean over frames of the contrast relative to the reference's; blur is below 1."""
    return mean_over_frames(frame_contrast(a, b))


def motion_ratio(a: Any, b: Any) -> Any:
    """Return mean |frame difference| of a over that of b: 0 is frozen, 1 moves as much as the reference."""
    x, y = (np.abs(np.diff(v, axis=-4)).mean((-4, -3, -2, -1)) for v in _pair(a, b))
    ratio = x / np.maximum(y, 1e-6)
    return float(ratio) if np.ndim(ratio) == 0 else ratio


def _pair(a: Any, b: Any) -> tuple[Array, Array]:
    x, y = as_unit(a), as_unit(b)
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {x.shape} and {y.shape}")
    return x, y


def mean_over_frames(
    values: Array,  # (..., T)
) -> Any:
    """Return the mean over the last axis; a float for one clip."""
    result = values.mean(-1)
    return float(result) if np.ndim(result) == 0 else result
