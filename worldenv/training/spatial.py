"""Losses on what features say of space (WorldScape): depth, and other views of the same clip rendered from it.

WorldScape's page gives L = L_fm + alpha L_depth + beta L_render over "depth maps and multi-view RGB renderings"; the
weights and forms are ours. Rendering is ``geometry.gaussians.draw``, which lets gradients through.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.camera import unproject
from ..geometry.gaussians import Drawn, Gaussians, draw
from ..models.gaussian_head import PixelGaussians

FAR = 20.0
"""Metres from which on everything is equally far."""
SAME = 0.05
"""Share of its depth within which a target's pixel is the surface that the source showed."""
SIZE = 0.7
"""Standard deviation, in pixels, of the Gaussians that tell which pixels of a target a source can know."""
SOFT = 0.2
"""Share of the nearest depth over which what is behind fades: as much as depth that is learned may be off."""
MOST = 2
"""Pixels that a Gaussian reaches."""


@dataclass(frozen=True)
class View:
    """A recorded view of each sample."""

    pixels: Tensor  # (B, 3, H, W) in [-1, 1]
    depth: Tensor  # (B, H, W) metres along z
    c2w: Tensor  # (B, 4, 4)


def depth_loss(
    log_depth: Tensor,  # (N, H, W)
    truth: Tensor,  # (N, H, W) metres
) -> Tensor:
    """Return the scale-invariant error of the logarithm, mean d^2 - (mean d)^2 / 2, (N,) (Eigen et al. 2014)."""
    off = (log_depth - truth.clamp(max=FAR).log()).flatten(1)
    return off.square().mean(1) - off.mean(1).square() / 2


def render_loss(
    found: PixelGaussians,  # (B, H, W) each, of the sources' pixels
    colour: Tensor,  # (B, 3, H, W) in [-1, 1]: what the Gaussians are coloured with
    source: View,
    target: View,
    K: Tensor,  # (3, 3) pixels
) -> Tensor:
    """Return the mean absolute error of the targets as the sources' Gaussians show them, (B,).

    It counts where the target shows a surface that the source did, by their true depths: no error is avoided by showing
    less, and none is held against what nobody could know.
    """
    with torch.no_grad():
        true = drawn(source.depth, torch.full_like(source.depth, SIZE), None, source.pixels, source, target, K)
        near = (true.depth / target.depth - 1).abs() < SAME
        known = ((true.cover > 0.5) & near & (target.depth < FAR)).float()
    made = drawn(found.log_depth.exp(), found.log_size.exp(), found.opacity, colour, source, target, K)
    shown = made.colour * (2 * made.cover).clamp(max=1)[:, None]  # grey where next to nothing is
    error = (shown - target.pixels).abs().mean(1)
    return (error * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def drawn(
    depth: Tensor,  # (B, H, W) metres
    size: Tensor,  # (B, H, W) pixels
    opacity: Tensor | None,  # (B, H, W); None is opaque
    colour: Tensor,  # (B, 3, H, W)
    source: View,
    target: View,
    K: Tensor,
) -> Drawn:
    """Show the sources' pixels, at these depths, to the targets' cameras."""
    start = source.c2w[:, :3, 3]  # metres count from the source, which float32 is enough for
    here, there = source.c2w.clone(), target.c2w.clone()
    here[:, :3, 3], there[:, :3, 3] = 0, target.c2w[:, :3, 3] - start
    radius = depth * size / K[0, 0]
    blobs = Gaussians(
        unproject(depth, here.to(depth), K.to(depth)).flatten(1, 2),
        colour.flatten(2).mT,
        radius.flatten(1),
        (torch.ones_like(depth) if opacity is None else opacity).flatten(1),
    )
    return draw(blobs, there, K, size=(depth.shape[1], depth.shape[2]), most=MOST, softness=SOFT)
