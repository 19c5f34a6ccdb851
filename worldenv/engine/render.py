"""Memory rendered into the coming view: remembered frames with depth, splatted along the path and encoded.

A third memory beside WorldPlay's and WorldScape's: explicit, of what has been shown, at the latents' own resolution.
What it knows of a chunk guides the sampler, or enters the transformer, or both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..dynamics.spec import WorldSpec, frame_path
from ..geometry.splat import splat
from ..memory.bank import MemoryBank
from ..memory.config import MemoryConfig
from ..memory.views import choose_views
from ..models.codec import to_pixels
from ..world.world import World
from .rollout import Rendered

LOOKS_BACK = ("worldplay", "worldscape", "random", "oracle")
"""Policies that look further back than the recent past; with these the start view may always be a source."""


class Renderer:
    """Renders what B episodes remember."""

    def __init__(self, world: World, spec: WorldSpec, memory: MemoryConfig) -> None:
        self.vae, self.head, self.spec = world.vae, world.require_depth_head(), spec
        self.config, self.looks_back = memory.rendering, memory.policy in LOOKS_BACK
        self.device = world.vae.latent_mean.device
        self.disturb: Callable[[Tensor, Tensor], Tensor] | None = None
        """Changes depth (N, H, W), given its expected error: what-if experiments of the evaluation."""

    @torch.no_grad()
    def depth(
        self,
        frames: Tensor,  # (B, F, H, W, 3) uint8
    ) -> Tensor:
        """Return the depth of frames, (B, F, H, W) metres along z."""
        found, error = self.head(to_pixels(frames.flatten(0, 1)).to(self.device))
        if self.disturb is not None:
            found = self.disturb(found, error)
        return found.unflatten(0, frames.shape[:2])

    def sources(
        self,
        bank: MemoryBank,
        index: Tensor,  # (B, S) int64 latents in context, -1 in empty slots
        c2w: Tensor,  # (B, F, 4, 4) the coming path
    ) -> Tensor:
        """Choose the latents whose views are rendered, (B, sources) int64, oldest first, -1 for none."""
        chunk = self.spec.chunk_latents  # latents that end an entry are its multiples
        ends = torch.where((index >= 0) & (index % chunk == 0), index, -1).sort(1).values
        ends = ends[:, -max(1, int((ends >= 0).sum(1).max())) :]
        if self.looks_back:
            absent = ~(ends == 0).any(1, keepdim=True) & (bank.length > 0)[:, None]
            ends = torch.cat([torch.where(absent, 0, -1), ends], 1)
        coming = c2w[:, [c2w.shape[1] // 2 - 1, -1]] if c2w.shape[1] > 1 else c2w
        return choose_views(bank, ends, coming, self.spec.K, self.config.sources)

    @torch.no_grad()
    def __call__(
        self,
        bank: MemoryBank,
        places: Tensor,  # (B, S) int64, from ``sources``
        c2w: Tensor,  # (B, F, 4, 4) the coming path
    ) -> Rendered:
        """Render the sources into every frame of the coming chunk."""
        frames, depth, source = (part.to(self.device) for part in bank.shown(places))
        made = (places >= bank.given[:, None]).float()
        start = bank.c2w[torch.arange(len(places)), (bank.length - 1).clamp(min=0)]
        found = splat(
            to_pixels(frames),
            depth,
            source,
            frame_path(start, c2w).to(self.device),
            self.spec.K,
            valid=(places >= 0).to(self.device),
            slack=self.config.slack,
            restore=self.config.sharpen * made.to(self.device),
        )
        clip = fill_holes(found.colour.clamp(-1, 1), found.known)
        latents = self.vae.encode_chunk(clip.to(self.vae.dtype))
        known, (low, high) = self._cells(found.known), self.config.known
        return Rendered(latents.float(), known, ((known - low) / (high - low)).clamp(0, 1), self.config.until)

    def _cells(self, known: Tensor) -> Tensor:
        """Return the known share of each latent cell, the least of its frames' (B, T, H, W) bool; (B, F, 1, h, w)."""
        cells = F.avg_pool2d(known.float(), self.vae.spatial_factor)
        frames = self.spec.chunk_frames // self.spec.chunk_latents
        return cells.unflatten(1, (-1, frames)).amin(2)[:, :, None]


def fill_holes(
    colour: Tensor,  # (B, T, C, H, W), 0 in holes
    known: Tensor,  # (B, T, H, W) bool
) -> Tensor:
    """Fill holes from what lies around them, coarser the larger they are; (B, T, C, H, W)."""
    weight = known.flatten(0, 1)[:, None].float()
    levels = [(colour.flatten(0, 1), weight)]
    while min(levels[-1][0].shape[-2:]) > 1:
        sums, shares = (F.avg_pool2d(x, 2, ceil_mode=True) for x in levels[-1])
        levels.append((sums, shares))
    sums, shares = levels.pop()
    below = sums / shares.clamp(min=1e-6)
    for sums, shares in reversed(levels):
        smooth = F.interpolate(below, size=sums.shape[-2:], mode="bilinear", align_corners=False)
        full = shares.clamp(max=1)
        below = sums + (1 - full) * smooth  # ``sums`` is colour times share
    return below.view_as(colour)
