"""What a transformer's inner features say of space: for every pixel its depth, and the size and opacity of a Gaussian.

It teaches the transformer while that is trained (stage ``consistency``) and is not part of a world.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST = 0.4
"""Logarithm of the largest standard deviation, in pixels: larger ones would hide with blur what depth gets wrong."""
CHANNELS = 8
"""Channels at half the picture's resolution."""
BEGIN = (1.0, -0.35, 2.0)
"""What it says untrained: metres e, 0.7 pixels, nearly opaque."""


@dataclass(frozen=True)
class PixelGaussians:
    """A Gaussian for each pixel, at its depth."""

    log_depth: Tensor  # (N, H, W) of metres along z
    log_size: Tensor  # (N, H, W) of the standard deviation in pixels' widths at that depth
    opacity: Tensor  # (N, H, W) 0 to 1

    def select(
        self,
        index: Tensor,  # (M,) int64
    ) -> PixelGaussians:
        """Return those of some pictures."""
        return PixelGaussians(self.log_depth[index], self.log_size[index], self.opacity[index])


class GaussianHead(nn.Module):
    """Tokens to pixels: a linear layer to half the resolution, a convolution to the whole."""

    def __init__(
        self,
        width: int,
        *,
        cell: int,  # pixels to a side of a token, an even number
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(width, CHANNELS * (cell // 2) ** 2)
        self.shuffle = nn.PixelShuffle(cell // 2)
        self.out = nn.Conv2d(CHANNELS, 3 * 4, 3, padding=1)
        self.out.weight.data *= 0.1
        self.out.bias = nn.Parameter(torch.tensor(BEGIN).repeat_interleave(4))

    def forward(
        self,
        tokens: Tensor,  # (N, S, D)
        grid: tuple[int, int],  # rows and columns of tokens
    ) -> PixelGaussians:
        x = self.spread(self.norm(tokens.to(self.norm.weight.dtype)))
        x = self.shuffle(x.transpose(1, 2).unflatten(2, grid))
        log_depth, log_size, opacity = F.pixel_shuffle(self.out(F.silu(x)), 2).float().unbind(1)
        return PixelGaussians(log_depth.clamp(-3, 5), log_size.clamp(-3, LARGEST), opacity.sigmoid())
