"""Recorded histories that an episode can begin after: what led to where it begins is remembered, not invented.

A world has two kinds: ``moments`` of a recorded environment, and ``clips`` on mazes, which know more of where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors, load_tensors
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from ..geometry.pose import is_rigid
from .starts import Starts


@dataclass(frozen=True)
class Histories:
    """Encoded histories, all of one length: a frame alone, then whole chunks."""

    latents: Tensor  # (N, F, C, h, w) float16
    signals: Track  # each (N, F, ...): what led to each of them
    views: Tensor  # (N, E, H, W, 3) uint8: the frame alone and the last one of each chunk, or the very last alone

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def num_latents(self) -> int:
        """Latents of a history, its first frame's among them."""
        return self.latents.shape[1]

    @property
    def c2w(self) -> Tensor:
        """Where the camera was, (N, F, 4, 4)."""
        return self.signals["c2w"]

    def at(self, index: Tensor) -> Self:
        """Return some histories, by their numbers."""
        whole = {name: part[index] for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **whole, signals=self.signals.at(index))

    def shows_entries(self, chunk_latents: int) -> bool:
        """Tell whether the views are those that entries of so many latents end with."""
        return self.num_latents == 1 + (self.views.shape[1] - 1) * chunk_latents

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by the names in the file, signals by their own."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Tensor)} | self.signals

    @property
    def starts(self) -> Starts:
        """Where episodes that begin after a history begin: at its end."""
        return Starts(self.views[:, -1])


def load_histories(path: Path, spec: WorldSpec, latent_shape: tuple[int, int, int]) -> Histories | None:
    """Read histories, or None if there is no such file.

    Raises:
        ValueError: if the file holds others than the world can begin after.
    """
    tensors = read_histories(path, spec, latent_shape, {})
    return None if tensors is None else Histories(**tensors)


def read_histories(
    path: Path,
    spec: WorldSpec,
    latent_shape: tuple[int, int, int],
    more: Mapping[str, Expected],  # what there is beside, by name
) -> dict[str, Any] | None:
    """Read and check the fields of histories, or None if there is no such file.

    Raises:
        ValueError: if the file holds others than the world can begin after.
    """
    if not path.exists():
        return None
    tensors, _ = load_tensors(path)
    known: dict[str, Expected] = {
        "latents": (torch.float16, ("N", "F", *latent_shape)),
        "views": (torch.uint8, ("N", "E", spec.height, spec.width, 3)),
        **{name: (getattr(torch, one.dtype), ("N", "F", *one.shape)) for name, one in spec.takes.items()},
        **more,
    }
    check_tensors(tensors, known, where=str(path))
    signals = Track({name: tensors.pop(name) for name in spec.takes})
    found = Histories(tensors["latents"], signals, tensors["views"])
    whole = len(found) and (found.num_latents - 1) % spec.chunk_latents == 0
    shown = found.views.shape[1] == 1 or found.shows_entries(spec.chunk_latents)
    if not (whole and shown and ("c2w" not in signals or is_rigid(signals["c2w"]))):
        raise ValueError(f"{path} holds no histories of whole chunks with rigid poses; the file was edited")
    return {"signals": signals, **tensors}
