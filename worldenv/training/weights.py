"""How much an error counts where: what changes in an episode, and small things that matter, are few of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..base.config import check_numbers
from ..data.schema import Clip

CHANGED = 0.06
"""Difference of a pixel from the episode's first frame, or the one before, as a share of full scale, from which it has
changed."""

LEAST_MOVED = 0.01
"""Share of a clip's pixels that is taken to move where less does: no cell counts above all measure."""


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Weights of cells of latents, beside 1; the mean over a clip is 1 again."""

    changed: float = 0.0
    """More for a cell whose pixels all differ from the clip's first frame."""
    moved: float = 0.0
    """More for a cell by how much of it differs from the frame before: all that moves in a clip weighs so many times
    what everything does together, and the less moves the more each cell of it counts."""
    objects: float = 0.0
    """More for a cell whose pixels all belong to one of ``segments``."""
    segments: tuple[int, ...] = ()
    """Values of the recorded segmentation that are objects."""

    def __post_init__(self) -> None:
        check_numbers(self, natural=("changed", "moved", "objects", "segments"))
        if bool(self.objects) != bool(self.segments):
            raise ValueError(f"objects={self.objects:g} with segments={self.segments}: give both, or neither")

    @property
    def active(self) -> bool:
        """Whether they differ from cell to cell."""
        return bool(self.changed or self.moved or self.objects)


PLAIN = WeightsConfig()
"""Every cell counts alike."""


def cell_weights(clip: Clip, config: WeightsConfig, *, cell: int) -> Tensor:
    """Return how much each cell of ``cell`` pixels a side counts, (F, 1, h, w) float32.

    Raises:
        ValueError: if objects count more and the recording has no segmentation.
    """
    frames = torch.from_numpy(clip.frames).short()
    extra = config.changed * _shares(_differ(frames, frames[:1]), cell, clip.frames_per_latent)
    if config.moved:
        moved = _shares(_differ(frames, torch.cat([frames[:1], frames[:-1]])), cell, clip.frames_per_latent)
        extra = extra + config.moved * moved / moved.mean().clamp_min(LEAST_MOVED)
    if config.objects:
        extra = extra + config.objects * _shares(_found(clip, config).float(), cell, clip.frames_per_latent)
    weight = 1 + extra
    return weight / weight.mean()


def carried(clip: Clip, config: WeightsConfig, *, chunk_latents: int) -> Tensor:
    """Return which share of the objects each latent shows lies where none lay before its chunk, (F,) float32.

    It is 0 where objects rest, or none is shown: there the picture before the chunk says all there is to know of them.

    Raises:
        ValueError: if the recording has no segmentation.
    """
    found = _found(clip, config)[:: clip.frames_per_latent]
    before = ((torch.arange(len(found)) - 1) // chunk_latents * chunk_latents).clamp(min=0)
    return (found & ~found[before]).sum((1, 2)) / found.sum((1, 2)).clamp(min=1)


def _found(clip: Clip, config: WeightsConfig) -> Tensor:
    """Tell which pixels are an object's, (T, H, W) bool."""
    if "segmentation" not in clip.signals:
        raise ValueError("[weights] objects: this recording has no segmentation; record one that has, with --depth")
    return torch.isin(torch.from_numpy(clip.signals["segmentation"]), torch.tensor(config.segments))


def _differ(frames: Tensor, others: Tensor) -> Tensor:
    """Tell which pixels differ, (T, H, W) float32."""
    return ((frames - others).abs().amax(-1) > 255 * CHANGED).float()


def _shares(
    mask: Tensor,  # (T, H, W)
    cell: int,
    frames_per_latent: int,
) -> Tensor:
    """Return the share of each cell's pixels that are set in the frames of each latent, (F, 1, h, w)."""
    share = F.avg_pool2d(mask[:, None], cell)
    later = share[1:].unflatten(0, (-1, frames_per_latent)).mean(1)
    return torch.cat([share[:1], later])
