"""The peak signal-to-noise ratio, once."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr_of(
    mse: Tensor,
    *,
    peak: float = 1.0,
    least: float = 1e-12,
) -> Tensor:
    """Return decibels of mean squared errors of values that span ``peak``; errors below ``least`` count as that."""
    return 10 * torch.log10(peak**2 / mse.clamp(min=least))
