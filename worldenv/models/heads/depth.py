"""The depth head: one frame to metres along z and how sure it is of them.

A small U-Net. It knows where in the picture it looks, and metres come from the camera's constant height over the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.config import check_numbers

FACTOR = 8
"""Frame sizes must be multiples of this."""


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """Sizes of the depth head."""

    widths: tuple[int, int, int] = (32, 64, 96)
    """Channels at 1/2, 1/4 and 1/8 resolution."""
    num_blocks: int = 2
    """Residual blocks at each of the two coarser resolutions, on the way down."""

    def __post_init__(self) -> None:
        check_numbers(self, sizes=("widths",), layers=("num_blocks",))


class ConvBlock(nn.Module):
    """Two convolutions around a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self,
        x: Tensor,  # (N, C, h, w)
    ) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class DepthHead(nn.Module):
    """Frames to depth."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.stem = nn.Conv2d(14, a, 3, padding=1)
        self.fine = ConvBlock(a)
        self.down1, self.down2 = nn.Conv2d(4 * a, b, 1), nn.Conv2d(4 * b, c, 1)
        self.middle = nn.Sequential(*(ConvBlock(b) for _ in range(config.num_blocks)))
        self.coarse = nn.Sequential(*(ConvBlock(c) for _ in range(config.num_blocks)))
        self.whole = nn.Linear(c, c)
        self.up1, self.up2 = nn.Conv2d(c, 4 * b, 1), nn.Conv2d(b, 4 * a, 1)
        self.merge1, self.merge2 = ConvBlock(b), ConvBlock(a)
        self.out = nn.Conv2d(a, 2 * 4, 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.out.weight.dtype

    def forward(
        self,
        pixels: Tensor,  # (N, 3, H, W) in [-1, 1]
    ) -> tuple[Tensor, Tensor]:
        """Return metres along z and their standard error as a share of them, each (N, H, W) float32."""
        height, width = pixels.shape[-2:]
        if height % FACTOR or width % FACTOR:
            raise ValueError(f"frames of {width}x{height} pixels; the depth head takes multiples of {FACTOR}")
        x = torch.cat([F.pixel_unshuffle(pixels.to(self.dtype), 2), self._places(height // 2, width // 2, pixels)], 1)
        fine = self.fine(self.stem(x))
        middle = self.middle(self.down1(F.pixel_unshuffle(fine, 2)))
        coarse = self.coarse(self.down2(F.pixel_unshuffle(middle, 2)))
        coarse = coarse + self.whole(coarse.mean((2, 3)))[:, :, None, None]  # how large the room is
        middle = self.merge1(middle + F.pixel_shuffle(self.up1(coarse), 2))
        fine = self.merge2(fine + F.pixel_shuffle(self.up2(middle), 2))
        log_depth, log_error = F.pixel_shuffle(self.out(F.silu(fine)), 2).float().unbind(1)
        return (log_depth + 1).clamp(-3, 5).exp(), (log_error - 2).clamp(-6, 1).exp()

    def _places(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return where each cell lies in the picture, -1 to 1, (N, 2, h, w)."""
        y, x = (torch.linspace(-1, 1, n, device=like.device, dtype=self.dtype) for n in (height, width))
        return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)]).expand(len(like), -1, -1, -1)
