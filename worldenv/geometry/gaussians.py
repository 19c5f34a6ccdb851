"""Gaussians drawn as a camera sees them, in plain tensor operations that gradients flow through.

``splat`` shows pictures with depth exactly and without gradients; here every point is a round blob of its own size and
opacity. Weights fall off with the distance to a pixel's centre, and with the depth behind the nearest blob there.
Colours, places, sizes and opacities learn from a picture's error. Which blob is in front does not, as in 3D Gaussian
splatting: that gradient is the steepest by far and pulls everything towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .camera import project
from .pose import invert_se3
from .splat import NEAR

LEAST = 0.35
"""Pixels to which a blob's standard deviation is widened, so that none falls between pixels (as EWA splatting does)."""
CUT = 2.5
"""Standard deviations beyond which a blob shows nothing."""
MOST_OPAQUE = 0.99
"""What a blob hides at most of what is behind it."""
OPAQUE = 0.3
"""Weight from which a blob counts as what is nearest at a pixel."""


@dataclass(frozen=True)
class Gaussians:
    """Blobs of B scenes."""

    xyz: Tensor  # (B, P, 3) metres
    colour: Tensor  # (B, P, C)
    radius: Tensor  # (B, P) standard deviation, metres
    opacity: Tensor  # (B, P) 0 to 1


@dataclass(frozen=True)
class Drawn:
    """What a camera sees of blobs."""

    colour: Tensor  # (B, C, H, W): where nothing is, 0
    depth: Tensor  # (B, H, W) metres along z: where nothing is, 0
    cover: Tensor  # (B, H, W) 0 to 1


def draw(
    gaussians: Gaussians,
    c2w: Tensor,  # (B, 4, 4)
    K: Tensor,  # (3, 3) pixels
    *,
    size: tuple[int, int],  # height and width
    most: int = 8,  # pixels that a blob reaches from its centre's
    softness: float = 0.03,  # share of the nearest depth over which what is behind fades
) -> Drawn:
    """Draw blobs: colours and depths are means over those that show at a pixel, ``cover`` how much they hide."""
    height, width = size
    uv, z = project(gaussians.xyz, invert_se3(c2w).to(gaussians.xyz.dtype), K.to(gaussians.xyz))
    front = z > NEAR
    deviation = (K[0, 0] * gaussians.radius / z.clamp(min=NEAR)).clamp(min=LEAST)
    at = uv.detach().nan_to_num(-1e4).clamp(-1e4, 1e4).floor().long()
    row_of = torch.arange(len(z), device=z.device)[:, None].expand_as(z)
    spread = torch.where(front, (CUT * deviation.detach()).clamp(max=most), -1)
    parts = []
    for ring in range(most + 1):
        wide = (spread >= ring - 0.5).flatten().nonzero()[:, 0]
        if not len(wide):
            break
        column, line = at.flatten(0, 1)[wide].unbind(-1)
        first = row_of.flatten()[wide] * height
        for dy, dx in _ring(ring):
            x, y = column + dx, line + dy
            inside = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).nonzero()[:, 0]
            parts.append((wide[inside], ((first + y) * width + x)[inside]))
    if not parts:
        nothing = z.new_zeros(len(z), height, width)
        return Drawn(z.new_zeros(len(z), gaussians.colour.shape[-1], height, width), nothing, nothing)
    blob, pixel = (torch.cat(part) for part in zip(*parts, strict=True))
    return _blend(
        gaussians, uv.flatten(0, 1)[blob], z.flatten()[blob], deviation.flatten()[blob], blob, pixel, size, softness
    )


def _ring(ring: int) -> list[tuple[int, int]]:
    """List the pixels so far from one, as rows and columns away."""
    steps = range(-ring, ring + 1)
    return [(dy, dx) for dy in steps for dx in steps if max(abs(dy), abs(dx)) == ring]


def _blend(
    gaussians: Gaussians,
    uv: Tensor,  # (M, 2) of pairs of a blob and a pixel
    z: Tensor,  # (M,)
    deviation: Tensor,  # (M,) pixels
    blob: Tensor,  # (M,) int64
    pixel: Tensor,  # (M,) int64
    size: tuple[int, int],
    softness: float,
) -> Drawn:
    """Blend what falls on each pixel."""
    batch, (height, width) = len(gaussians.xyz), size
    centre = torch.stack([pixel % width, pixel // width % height], -1) + 0.5
    near = (-(uv - centre).square().sum(-1) / (2 * deviation.square())).exp()
    weight = gaussians.opacity.flatten()[blob] * near
    total = batch * height * width
    nearest = torch.full((total,), torch.inf, device=z.device, dtype=z.dtype)
    counts = weight.detach() > OPAQUE
    nearest.scatter_reduce_(0, pixel[counts], z.detach()[counts], "amin")
    behind = ((z.detach() - nearest[pixel]) / (softness * z.detach())).clamp(
        min=0
    )  # -inf where nothing is opaque: all shows
    weight = weight * torch.where(behind < torch.inf, (-behind).exp(), 0)
    sums = z.new_zeros(total).index_add(0, pixel, weight)
    values = torch.cat([gaussians.colour.flatten(0, 1)[blob], z[:, None]], -1)
    mixed = values.new_zeros(total, values.shape[-1]).index_add(0, pixel, weight[:, None] * values)
    mixed = mixed / sums.clamp(min=1e-6)[:, None]
    shown = mixed.view(batch, height, width, -1).movedim(-1, 1)
    passed = z.new_zeros(total).index_add(0, pixel, (-weight.clamp(max=MOST_OPAQUE)).log1p())
    cover = 1 - passed.exp()
    return Drawn(shown[:, :-1], shown[:, -1], cover.view(batch, height, width))
