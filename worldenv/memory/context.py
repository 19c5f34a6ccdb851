"""Context: which past latents the next chunk attends to, by policy, as tensors for the model.

History comes in entries: entry 0 is the start view (latent 0 alone), entry e >= 1 the e-th generated chunk. A context
has a fixed number of slots, filled from the right in order of time; empty slots (index -1) are masked. Slot s has
temporal position s and the new chunk follows at positions S, S + 1, ...: temporal reframing (WorldPlay 3.3, figure 4c).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.rng import derive_seed
from ..diffusion.schedule import CONTEXT_TIMESTEP
from ..models.prope import camera_projection
from ..models.types import Conditioning
from .bank import MemoryBank
from .retrieval import ball_points, fov_overlap


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What is remembered and how it is looked up."""

    policy: str = "worldplay"
    """One of the keys of POLICIES."""
    temporal_latents: int = 12
    """Most recent latents, always in context."""
    retrieved_chunks: int = 1
    """Older chunks looked up by field-of-view overlap."""
    fov_deg: tuple[float, float] = (60.0, 35.0)
    """Field of view used for the overlap, horizontal and vertical."""
    radius: float = 8.0
    """Metres within which overlap counts."""
    num_points: int = 8192
    """Points of the overlap estimate."""
    seed: int = 0
    """Seed of the points, and of the ``random`` policy."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"unknown memory policy {self.policy!r}; choose one of {', '.join(POLICIES)}")


@dataclass(frozen=True)
class Selection:
    """The latents in context."""

    index: Tensor  # (B, S) int64, ascending, -1 in empty slots on the left
    retrieved: Tensor  # (B,) int64: the retrieved entry, -1 for none
    score: Tensor  # (B,) float64: its overlap


@dataclass(frozen=True)
class Context:
    """Clean past latents for the model."""

    latents: Tensor  # (B, S, C, h, w) float32
    c2w: Tensor  # (B, S, 4, 4) float64
    labels: Tensor  # (B, S) int64
    entry: Tensor  # (B, S) int64: the entry each latent belongs to; -1 in empty slots
    timesteps: Tensor | None = None  # (B, S): noise labels of a noised context (training); None is clean

    @property
    def valid(self) -> Tensor:
        """Which slots are filled, (B, S) bool."""
        return self.entry >= 0


def entry_of(
    index: Tensor,  # (...) latent index
    chunk_latents: int,
) -> Tensor:
    """Return the entry that a latent belongs to: 0 for latent 0, then one per chunk; -1 stays -1."""
    return torch.where(index < 0, -1, (index + chunk_latents - 1) // chunk_latents)


def num_slots(config: MemoryConfig, chunk_latents: int) -> int:
    """Return S, the slots of a context."""
    return config.temporal_latents + config.retrieved_chunks * chunk_latents


Score = Callable[[Tensor], Tensor]
"""Maps candidate view indices (B, E, V) of latents to scores (B, E)."""


def select(
    bank: MemoryBank,
    query_c2w: Tensor,  # (B, F, 4, 4) poses of the coming chunk
    config: MemoryConfig,
    *,
    chunk_latents: int,
    seeds: Sequence[int] = (),
) -> Selection:
    """Choose the context of the coming chunk for every env.

    Args:
        bank: history of B envs, at least one latent each.
        query_c2w: commanded poses of the coming chunk.
        config: policy and budgets.
        chunk_latents: latents per chunk.
        seeds: one number per env for the ``random`` policy, which draws anew at every history length.
    """
    return POLICIES[config.policy](bank, query_c2w, config, chunk_latents, seeds)


def _recent(length: Tensor, count: int, slots: int) -> Tensor:
    """Index the ``count`` most recent latents, right-aligned in ``slots``; (B, slots)."""
    index = length[:, None] - slots + torch.arange(slots)
    return torch.where((index >= 0) & (index >= length[:, None] - count), index, -1)


def _select_none(bank: MemoryBank, query: Tensor, config: MemoryConfig, chunk: int, seeds: Sequence[int]) -> Selection:
    return _without_retrieval(_recent(bank.length, chunk, num_slots(config, chunk)))


def _select_recent(
    bank: MemoryBank, query: Tensor, config: MemoryConfig, chunk: int, seeds: Sequence[int]
) -> Selection:
    slots = num_slots(config, chunk)
    return _without_retrieval(_recent(bank.length, slots, slots))


def _without_retrieval(index: Tensor) -> Selection:
    none = torch.full((len(index),), -1)
    return Selection(index, none, torch.zeros(len(index), dtype=torch.float64))


def _select_worldplay(
    bank: MemoryBank, query: Tensor, config: MemoryConfig, chunk: int, seeds: Sequence[int]
) -> Selection:
    points = ball_points(config.num_points, radius=config.radius, seed=config.seed)

    def overlap(entries: Tensor) -> Tensor:  # (B, E) -> (B, E)
        first = (entries * chunk - chunk + 1).clamp(min=0)
        middle = (first + chunk // 2).where(entries > 0, 0)
        views = torch.stack([first, middle], -1).flatten(1)
        poses = bank.c2w[torch.arange(len(views))[:, None], views]
        score = fov_overlap(query, poses, points, fov_deg=config.fov_deg, radius=config.radius)
        return score.mean(-2).unflatten(-1, (-1, 2)).mean(-1)

    return _retrieve(bank, config, chunk, overlap)


def _select_random(
    bank: MemoryBank, query: Tensor, config: MemoryConfig, chunk: int, seeds: Sequence[int]
) -> Selection:
    def draw(entries: Tensor) -> Tensor:
        keys = seeds or range(len(entries))
        rows = [
            torch.rand(1, generator=torch.Generator().manual_seed(derive_seed(config.seed, key, int(length))))
            for key, length in zip(keys, bank.length, strict=True)
        ]
        # Each row prefers one of its candidates: the closest from below to a uniform draw over them.
        count = _num_candidates(bank.length, config, chunk)
        favourite = (torch.cat(rows) * count).long()
        return -(entries - favourite[:, None]).abs().double()

    return _retrieve(bank, config, chunk, draw)


def _num_candidates(length: Tensor, config: MemoryConfig, chunk: int) -> Tensor:
    """Count the entries that lie wholly before the temporal window, (B,); none while everything fits."""
    count = (length - config.temporal_latents - 1).div(chunk, rounding_mode="floor") + 1
    return count.where(length > num_slots(config, chunk), 0)


def _retrieve(bank: MemoryBank, config: MemoryConfig, chunk: int, score: Score) -> Selection:
    """Combine the temporal window with the best-scoring older entries; everything while it fits."""
    slots, length = num_slots(config, chunk), bank.length
    everything = _recent(length, slots, slots)
    count = _num_candidates(length, config, chunk)
    if not config.retrieved_chunks or int(count.max()) == 0:
        return _without_retrieval(everything)
    entries = torch.arange(int(count.max())).expand(len(length), -1)
    scores = score(entries).masked_fill(entries >= count[:, None], float("-inf"))
    order = scores.argsort(dim=1, descending=True, stable=True)[:, : config.retrieved_chunks]
    chosen = torch.where(scores.gather(1, order) > float("-inf"), order, -1)
    members = (chosen * chunk - chunk + 1)[..., None] + torch.arange(chunk)
    members = torch.where((chosen >= 0)[..., None] & (members >= 0), members, -1).flatten(1)
    window = _recent(length, config.temporal_latents, config.temporal_latents)
    merged = torch.cat([members, window], 1).sort(1).values
    index = torch.where((length > slots)[:, None], merged, everything)
    return Selection(index, chosen[:, 0], scores.gather(1, order)[:, 0].where(chosen[:, 0] >= 0, 0))


POLICIES: dict[str, Callable[[MemoryBank, Tensor, MemoryConfig, int, Sequence[int]], Selection]] = {
    "worldplay": _select_worldplay,
    "none": _select_none,
    "recent": _select_recent,
    "random": _select_random,
}


def with_policy(config: MemoryConfig, policy: str) -> MemoryConfig:
    """Return the same budgets under another policy."""
    return replace(config, policy=policy)


def gather(
    bank: MemoryBank,
    index: Tensor,  # (B, S) int64, -1 for empty
    *,
    chunk_latents: int,
) -> Context:
    """Fetch the selected latents; empty slots repeat latent 0 and are masked."""
    rows, safe = torch.arange(len(index))[:, None], index.clamp(min=0)
    return Context(
        latents=bank.latents[rows, safe],
        c2w=bank.c2w[rows, safe],
        labels=bank.labels[rows, safe],
        entry=entry_of(index, chunk_latents),
    )


def context_mask(
    entry: Tensor,  # (B, S) int64, -1 for empty
) -> Tensor:
    """Return which context latents see which: block-causal over entries; empty slots see themselves; (B, S, S)."""
    causal = (entry[:, :, None] >= entry[:, None, :]) & (entry[:, None, :] >= 0)
    return causal | torch.eye(entry.shape[1], dtype=torch.bool)


def chunk_mask(
    valid: Tensor,  # (B, S) bool
    num_latents: int,
) -> Tensor:
    """Let every latent of the new chunk see the filled slots and the whole chunk; (B, F, S + F) bool."""
    return torch.cat([valid, valid.new_ones(len(valid), num_latents)], 1)[:, None].expand(-1, num_latents, -1)


def condition(
    context: Context,
    c2w: Tensor,  # (B, F, 4, 4) poses of the chunk
    labels: Tensor,  # (B, F)
    *,
    K: Tensor,  # (3, 3) normalised
    unit: float,
) -> Conditioning:
    """Build the conditioning of [context | chunk], (B, S + F), reframed in time and space.

    Poses are expressed relative to the chunk's first camera and in the model's unit, which changes nothing in exact
    arithmetic (only relative cameras enter) and keeps numbers small. The chunk's timesteps are set later.
    """
    poses = torch.cat([context.c2w, c2w], 1)
    poses = torch.linalg.solve(c2w[:, :1], poses)
    poses[..., :3, 3] /= unit
    projection, unprojection = camera_projection(poses.float(), K)
    batch, total = poses.shape[:2]
    timesteps = torch.full((batch, total), CONTEXT_TIMESTEP)
    if context.timesteps is not None:
        timesteps[:, : context.timesteps.shape[1]] = context.timesteps
    return Conditioning(
        timesteps=timesteps,
        labels=torch.cat([context.labels, labels], 1),
        positions=torch.arange(total).expand(batch, -1),
        projection=projection,
        unprojection=unprojection,
    )
