"""Recorded moments that an episode can begin at: the last latents before them, and what led to each.

Short dreams from real moments are where learned rewards hold: what led there is remembered, and shown to the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors, load_tensors
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from .starts import Starts

TRACK = "track."
"""What names of a track's signals begin with in the file."""


@dataclass(frozen=True)
class Moments:
    """Encoded ends of recorded histories, all of one length."""

    latents: Tensor  # (N, F, C, h, w) float16: a frame alone, then whole chunks
    signals: Track  # each (N, F, ...): what led to each of them
    views: Tensor  # (N, 1, H, W, 3) uint8: the frame that they end with

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def num_latents(self) -> int:
        """Latents of a moment's history, the frame that it begins with among them."""
        return self.latents.shape[1]

    @property
    def starts(self) -> Starts:
        """What episodes that begin at a moment show first."""
        return Starts(self.views[:, -1])

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by the names in the file."""
        track = {TRACK + name: part for name, part in self.signals.items()}
        return {"latents": self.latents, "views": self.views, **track}

    def track(
        self,
        index: Tensor,  # (R,) int64
    ) -> Track:
        """Return what led to the latents of some moments, each (R, F, ...)."""
        return self.signals.at(index)


def load_moments(path: Path, spec: WorldSpec, latent_shape: tuple[int, int, int]) -> Moments | None:
    """Read moments, or None if there is no such file.

    Raises:
        ValueError: if the file holds others than the world can begin at.
    """
    if not path.exists():
        return None
    tensors, _ = load_tensors(path)
    known: dict[str, Expected] = {
        "latents": (torch.float16, ("N", "F", *latent_shape)),
        "views": (torch.uint8, ("N", 1, spec.height, spec.width, 3)),
        **{TRACK + name: (getattr(torch, one.dtype), ("N", "F", *one.shape)) for name, one in spec.takes.items()},
    }
    check_tensors(tensors, known, where=str(path))
    count, num_latents = tensors["latents"].shape[:2]
    if not count or (num_latents - 1) % spec.chunk_latents:
        raise ValueError(f"{path} holds no histories of whole chunks; the file was edited")
    track = Track({name: tensors[TRACK + name] for name in spec.takes})
    return Moments(tensors["latents"], track, tensors["views"])
