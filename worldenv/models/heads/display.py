"""The display decoder: frames four times as large each way, for people to look at.

It reads one frame at a time and nothing else, so that it shows any frames of its world: generated, recorded or read
from a file. Latents would tell it nothing more: frames are made of them alone. Most of it works at the small frame's
size and below; pixels are put in place in two steps of pixel shuffling (Shi et al. 2016), on top of the frame enlarged
by bicubic interpolation. Nothing is normalised over a picture, remembered or drawn at random: equal frames look equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.config import check_numbers
from ..codec import to_frames, to_pixels

SCALE = 4
"""How much larger pictures are than frames, each way; sides of frames must be multiples of it."""


@dataclass(frozen=True, kw_only=True)
class DisplayConfig:
    """Sizes of the display decoder."""

    widths: tuple[int, int, int] = (24, 64, 128)
    """Channels at the frame's size, 1/2 and 1/4 of it."""
    fine: int = 16
    """Channels at twice the frame's size."""
    num_blocks: int = 2
    """Residual blocks at each of the two coarser sizes, on the way down."""

    def __post_init__(self) -> None:
        check_numbers(self, sizes=("widths", "fine"), layers=("num_blocks",))


class Residual(nn.Module):
    """Two convolutions around a residual, which begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(
        self,
        x: Tensor,  # (N, C, h, w)
    ) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class DisplayHead(nn.Module):
    """Frames to large pictures."""

    def __init__(self, config: DisplayConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.stem = nn.Conv2d(3, a, 3, padding=1)
        self.own = Residual(a)
        self.down1, self.down2 = nn.Conv2d(4 * a, b, 1), nn.Conv2d(4 * b, c, 1)
        self.middle = nn.Sequential(*(Residual(b) for _ in range(config.num_blocks)))
        self.coarse = nn.Sequential(*(Residual(c) for _ in range(config.num_blocks)))
        self.up1, self.up2 = nn.Conv2d(c, 4 * b, 1), nn.Conv2d(b, 4 * a, 1)
        self.merge1, self.merge2 = Residual(b), Residual(a)
        self.grow = nn.Conv2d(a, 4 * config.fine, 3, padding=1)
        self.fine = Residual(config.fine)
        self.out = nn.Conv2d(config.fine, 3 * 4, 3, padding=1)
        for part in (self.out.weight, self.out.bias):
            assert part is not None
            nn.init.zeros_(part)  # it begins as bicubic interpolation

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.out.weight.dtype

    def forward(
        self,
        pixels: Tensor,  # (N, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return pictures, (N, 3, 4 H, 4 W) float32, about in [-1, 1]."""
        height, width = pixels.shape[-2:]
        if height % SCALE or width % SCALE:
            raise ValueError(f"frames of {width}x{height} pixels; the display decoder takes multiples of {SCALE}")
        own = self.own(self.stem(pixels.to(self.dtype, memory_format=torch.channels_last)))
        middle = self.middle(self.down1(F.pixel_unshuffle(own, 2)))
        coarse = self.coarse(self.down2(F.pixel_unshuffle(middle, 2)))
        middle = self.merge1(middle + F.pixel_shuffle(self.up1(coarse), 2))
        own = self.merge2(own + F.pixel_shuffle(self.up2(middle), 2))
        fine = self.fine(F.pixel_shuffle(self.grow(F.silu(own)), 2))
        return enlarged(pixels) + F.pixel_shuffle(self.out(F.silu(fine)), 2).float()

    @torch.no_grad()
    def show(
        self,
        frames: Tensor,  # (..., H, W, 3) uint8
    ) -> Tensor:
        """Return pictures of frames, (..., 4 H, 4 W, 3) uint8."""
        device = self.out.weight.device
        parts = frames.flatten(0, -4).split(BATCH) if frames.ndim > 3 else [frames[None]]
        shown = torch.cat([to_frames(self(to_pixels(part).to(device))).cpu() for part in parts])
        return shown.view(*frames.shape[:-3], *shown.shape[1:])


BATCH = 8
"""Frames that ``show`` looks at together: what they need stays in a CPU's cache."""


def enlarged(
    pixels: Tensor,  # (N, 3, H, W)
) -> Tensor:
    """Return frames of the display's size without a display, by bicubic interpolation: (N, 3, 4 H, 4 W) float32."""
    return F.interpolate(pixels.float(), scale_factor=SCALE, mode="bicubic", align_corners=False)


def shrunk(
    pictures: Tensor,  # (..., 4 H, 4 W, 3) uint8
) -> Tensor:
    """Return frames whose pixels are the means of squares of pictures', (..., H, W, 3) uint8."""
    squares = pictures.unflatten(-2, (-1, SCALE)).unflatten(-4, (-1, SCALE))
    return squares.float().mean((-4, -2)).round().to(torch.uint8)
