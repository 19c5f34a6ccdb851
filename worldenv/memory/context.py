"""Context: the past latents that the next chunk attends to, as tensors for the model.

A context has a fixed number of slots, filled from the right in order of time; empty slots are masked. Slot s has
temporal position s and the new chunk follows at positions S, S + 1, ...: temporal reframing (WorldPlay 3.3, figure 4c).
Without it positions are the latents' own indices (figure 4b).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.schedule import CONTEXT_TIMESTEP
from ..dynamics.signals import POSE_VIDEO, Track
from ..geometry.action import keys_to_label
from ..geometry.pose import invert_se3
from ..models.kv_cache import PageTable
from ..models.prope import camera_projection, world_projection
from ..models.types import Conditioning, KeysValues
from .bank import MemoryBank
from .config import Layout


@dataclass(frozen=True)
class Context:
    """Past latents for the model: their pictures, to be encoded, or the keys and values that were recorded of them."""

    latents: Tensor  # (B, S, C, h, w) float32; empty where they are recorded
    track: Track  # each (B, S, ...): what led to each of them, and where it lies
    entry: Tensor  # (B, S) int64: the entry each latent belongs to; -1 in empty slots
    timesteps: Tensor | None = None  # (B, S): noise labels of a noised context (training); None is clean
    recorded: KeysValues | PageTable | None = None  # each (L, B, S, tokens, N, head_dim), or where they lie
    weight: Tensor | None = None  # (B, S, 1, h, w): how much an error of each cell counts (training); None is 1
    index: Tensor | None = None  # (B, S + 1) int64: every latent's own index and the chunk's first; None is reframed
    reach: int | None = None  # entries that a latent sees before its own, the chunk's included; None is all

    @property
    def valid(self) -> Tensor:
        """Which slots are filled, (B, S) bool."""
        return self.entry >= 0

    @property
    def seen(self) -> Tensor:
        """Which slots the chunk sees, (B, S) bool: filled ones within its reach."""
        newest = self.entry.amax(1, keepdim=True)
        return self.valid if self.reach is None else self.valid & (self.entry > newest - self.reach)


def gather(
    bank: MemoryBank,
    index: Tensor,  # (B, S) int64, -1 for empty
    layout: Layout,
    *,
    rows: Tensor | None = None,  # (B,) rows of the bank; None is all
    first: Tensor | None = None,  # (B,) index of the coming chunk's first latent, to keep indices; None reframes
) -> Context:
    """Fetch the selected latents; empty slots repeat latent 0 and are masked."""
    row, safe = (torch.arange(len(index)) if rows is None else rows)[:, None], index.clamp(min=0)
    there = row if bank.order is None else bank.order[row]
    kept = None if first is None else torch.cat([safe, first[:, None]], 1)
    track = bank.track.at((row, safe))
    return Context(latents=bank.latents[there, safe], track=track, entry=layout.entry_of(index), index=kept)


def positions(
    context: Context,
    num_latents: int,
) -> Tensor:
    """Return the temporal positions of [context | chunk]: the slots' numbers, or indices where they were kept.

    (B, S + F) int64.
    """
    batch, slots = context.entry.shape
    if context.index is None:
        return torch.arange(slots + num_latents).expand(batch, -1)
    return torch.cat([context.index[:, :-1], context.index[:, -1:] + torch.arange(num_latents)], 1)


def context_mask(
    entry: Tensor,  # (B, S) int64, -1 for empty
    *,
    causal: bool = True,
    reach: int | None = None,  # entries that one sees before its own; None is all
) -> Tensor:
    """Return which context latents see which, (B, S, S): block-causal over entries, or all that is there.

    Empty slots see themselves.
    """
    seen = (entry[:, None, :] >= 0).expand(-1, entry.shape[1], -1)
    if causal:
        seen = seen & (entry[:, :, None] >= entry[:, None, :])
    if reach is not None:
        seen = seen & (entry[:, :, None] - entry[:, None, :] <= reach)
    return seen | torch.eye(entry.shape[1], dtype=torch.bool)


def chunk_mask(
    seen: Tensor,  # (B, S) bool
    num_latents: int,
) -> Tensor:
    """Let every latent of the new chunk see these slots and the whole chunk; (B, F, S + F) bool."""
    return torch.cat([seen, seen.new_ones(len(seen), num_latents)], 1)[:, None].expand(-1, num_latents, -1)


def condition(
    context: Context,
    track: Track,  # each (B, F, ...), of the chunk
    *,
    K: Tensor,  # (3, 3) or (B, S + F, 3, 3) normalised
    unit: float,
    cameras: torch.dtype = torch.float64,
    grasp: Callable[[Tensor], Tensor] | None = None,  # of the transformer
) -> Conditioning:
    """Build the conditioning of [context | chunk], (B, S + F), reframed in space, and in time unless indices are kept.

    Keys become labels, a camera becomes projections, every other signal is a code; joints also say where a robot's
    grasp is. The chunk's timesteps are set later.
    """
    whole, slots = Track.join([context.track, track]), context.entry.shape[1]
    timesteps = torch.full((len(context.entry), whole.num_latents), CONTEXT_TIMESTEP)
    if context.timesteps is not None:
        timesteps[:, : context.timesteps.shape[1]] = context.timesteps
    keys, poses = whole.pop("keys", None), whole.pop("c2w", None)
    whole.pop(POSE_VIDEO, None)
    projection, unprojection = None, None
    if poses is not None:
        projection, unprojection = _projections(poses, poses[:, slots : slots + 1], K=K, unit=unit, cameras=cameras)
    return Conditioning(
        timesteps=timesteps,
        positions=positions(context, track.num_latents),
        labels=None if keys is None else keys_to_label(keys),
        projection=projection,
        unprojection=unprojection,
        grasp=None if grasp is None else grasp(whole["joints"]),
        codes={name: part.reshape(*part.shape[:2], -1).float() for name, part in whole.items()},
    )


def _projections(
    poses: Tensor,  # (B, S + F, 4, 4)
    first: Tensor,  # (B, 1, 4, 4): the chunk's first
    *,
    K: Tensor,
    unit: float,
    cameras: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return the projection of every camera and its inverse, each (B, S + F, 4, 4).

    Poses are expressed relative to the chunk's first camera and in the model's unit, which changes nothing in exact
    arithmetic (only relative cameras enter) and keeps numbers small. WorldPlay's release rounds world poses to the
    model's precision instead and computes with those: ``cameras`` other than float64.
    """
    if cameras == torch.float64:
        relative = torch.linalg.solve(first, poses)
        relative[..., :3, 3] /= unit
        return camera_projection(relative.float(), K)
    scaled = poses.clone()
    scaled[..., :3, 3] /= unit
    return world_projection(invert_se3(scaled).to(cameras), K.to(cameras))
