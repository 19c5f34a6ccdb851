"""Context: which past latents the next chunk attends to, by policy, as tensors for the model.

History comes in entries: entry 0 is the start view (latent 0 alone), entry e >= 1 the e-th generated chunk. Where the
first chunk begins with the start view (``start_alone=False``, WorldPlay's release), entry e is chunk e. A context has a
fixed number of slots, filled from the right in order of time; empty slots (index -1) are masked. Slot s has temporal
position s and the new chunk follows at positions S, S + 1, ...: temporal reframing (WorldPlay 3.3, figure 4c).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.rng import derive_seed
from ..diffusion.schedule import CONTEXT_TIMESTEP
from ..geometry.pose import invert_se3
from ..models.prope import camera_projection, world_projection
from ..models.types import Conditioning
from .bank import MemoryBank
from .retrieval import fov_overlap, view_points


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


@dataclass(frozen=True)
class Layout:
    """How latents fall into entries."""

    chunk_latents: int
    """Latents per chunk."""
    start_alone: bool = True
    """Whether latent 0 is an entry of its own."""

    @property
    def shift(self) -> int:
        """Latents that entry 0 lacks."""
        return self.chunk_latents - 1 if self.start_alone else 0

    def entry_of(
        self,
        index: Tensor,  # (...) latent index, -1 for none
    ) -> Tensor:
        """Return the entry that a latent belongs to; -1 stays -1."""
        return torch.where(index < 0, -1, (index + self.shift) // self.chunk_latents)

    def members(
        self,
        entries: Tensor,  # (...), -1 for none
    ) -> Tensor:
        """Return the latents of entries, (..., chunk_latents); -1 where there are none."""
        index = entries[..., None] * self.chunk_latents - self.shift + torch.arange(self.chunk_latents)
        return torch.where((entries[..., None] >= 0) & (index >= 0), index, -1)


def entry_of(
    index: Tensor,  # (...) latent index
    chunk_latents: int,
) -> Tensor:
    """Return the entry that a latent belongs to: 0 for latent 0, then one per chunk; -1 stays -1."""
    return Layout(chunk_latents).entry_of(index)


def num_slots(config: MemoryConfig, chunk_latents: int) -> int:
    """Return S, the slots of a context."""
    return config.temporal_latents + config.retrieved_chunks * chunk_latents


@dataclass(frozen=True)
class Query:
    """What the coming chunk asks of the memory."""

    c2w: Tensor  # (B, F, 4, 4) its poses
    seeds: Sequence[int] = ()
    points: Tensor | None = None  # (P, 3) of the overlap's estimate; None draws them from the policy's seed


Score = Callable[[Tensor], Tensor]
"""Maps candidate view indices (B, E, V) of latents to scores (B, E)."""


def select(
    bank: MemoryBank,
    query_c2w: Tensor,  # (B, F, 4, 4) poses of the coming chunk
    config: MemoryConfig,
    *,
    chunk_latents: int,
    start_alone: bool = True,
    seeds: Sequence[int] = (),
    points: Tensor | None = None,  # (P, 3)
) -> Selection:
    """Choose the context of the coming chunk for every env.

    Args:
        bank: history of B envs, at least one latent each.
        query_c2w: commanded poses of the coming chunk.
        config: policy and budgets.
        chunk_latents: latents per chunk.
        start_alone: whether latent 0 is an entry of its own.
        points: of the overlap's estimate, as offsets in the query frame; None draws them from ``config.seed``.
        seeds: one number per env for the ``random`` policy, which draws anew at every history length.
    """
    return POLICIES[config.policy](bank, Query(query_c2w, seeds, points), config, Layout(chunk_latents, start_alone))


def _recent(length: Tensor, count: int, slots: int) -> Tensor:
    """Index the ``count`` most recent latents, right-aligned in ``slots``; (B, slots)."""
    index = length[:, None] - slots + torch.arange(slots)
    return torch.where((index >= 0) & (index >= length[:, None] - count), index, -1)


def _select_none(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    return _without_retrieval(_recent(bank.length, layout.chunk_latents, num_slots(config, layout.chunk_latents)))


def _select_recent(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    slots = num_slots(config, layout.chunk_latents)
    return _without_retrieval(_recent(bank.length, slots, slots))


def _without_retrieval(index: Tensor) -> Selection:
    none = torch.full((len(index),), -1)
    return Selection(index, none, torch.zeros(len(index), dtype=torch.float64))


def _select_worldplay(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    points = query.points
    if points is None:
        points = view_points(config.num_points, radius=config.radius, seed=config.seed, fov_deg=config.fov_deg)

    def overlap(entries: Tensor) -> Tensor:  # (B, E) -> (B, E)
        members = layout.members(entries)
        members = torch.where(members < 0, members.amax(-1, keepdim=True), members)  # entry 0 may be latent 0 alone
        views = members[..., [0, layout.chunk_latents // 2]].flatten(1)
        poses = bank.c2w[torch.arange(len(views))[:, None], views]
        score = fov_overlap(query.c2w, poses, points, fov_deg=config.fov_deg, radius=config.radius)
        return score.mean(-2).unflatten(-1, (-1, 2)).mean(-1)

    return _retrieve(bank, config, layout, overlap)


def _select_random(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    def draw(entries: Tensor) -> Tensor:
        keys = query.seeds or range(len(entries))
        rows = [
            torch.rand(1, generator=torch.Generator().manual_seed(derive_seed(config.seed, key, int(length))))
            for key, length in zip(keys, bank.length, strict=True)
        ]
        # Each row prefers one of its candidates: the closest from below to a uniform draw over them.
        count = _num_candidates(bank.length, config, layout)
        favourite = (torch.cat(rows) * count).long()
        return -(entries - favourite[:, None]).abs().double()

    return _retrieve(bank, config, layout, draw)


def _num_candidates(length: Tensor, config: MemoryConfig, layout: Layout) -> Tensor:
    """Count the entries that lie wholly before the temporal window, (B,); none while everything fits."""
    count = (length - config.temporal_latents + layout.shift).div(layout.chunk_latents, rounding_mode="floor")
    return count.where(length > num_slots(config, layout.chunk_latents), 0)


def _retrieve(bank: MemoryBank, config: MemoryConfig, layout: Layout, score: Score) -> Selection:
    """Combine the temporal window with the best-scoring older entries; everything while it fits."""
    slots, length = num_slots(config, layout.chunk_latents), bank.length
    everything = _recent(length, slots, slots)
    count = _num_candidates(length, config, layout)
    if not config.retrieved_chunks or int(count.max()) == 0:
        return _without_retrieval(everything)
    entries = torch.arange(int(count.max())).expand(len(length), -1)
    scores = score(entries).masked_fill(entries >= count[:, None], float("-inf"))
    order = scores.argsort(dim=1, descending=True, stable=True)[:, : config.retrieved_chunks]
    chosen = torch.where(scores.gather(1, order) > float("-inf"), order, -1)
    window = _recent(length, config.temporal_latents, config.temporal_latents)
    merged = torch.cat([layout.members(chosen).flatten(1), window], 1).sort(1).values
    index = torch.where((length > slots)[:, None], merged, everything)
    return Selection(index, chosen[:, 0], scores.gather(1, order)[:, 0].where(chosen[:, 0] >= 0, 0))


POLICIES: dict[str, Callable[[MemoryBank, Query, MemoryConfig, Layout], Selection]] = {
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
    start_alone: bool = True,
) -> Context:
    """Fetch the selected latents; empty slots repeat latent 0 and are masked."""
    rows, safe = torch.arange(len(index))[:, None], index.clamp(min=0)
    return Context(
        latents=bank.latents[rows, safe],
        c2w=bank.c2w[rows, safe],
        labels=bank.labels[rows, safe],
        entry=Layout(chunk_latents, start_alone).entry_of(index),
    )


def context_mask(
    entry: Tensor,  # (B, S) int64, -1 for empty
    *,
    causal: bool = True,
) -> Tensor:
    """Return which context latents see which, (B, S, S): block-causal over entries, or all that is there.

    Empty slots see themselves.
    """
    seen = (entry[:, None, :] >= 0).expand(-1, entry.shape[1], -1)
    if causal:
        seen = seen & (entry[:, :, None] >= entry[:, None, :])
    return seen | torch.eye(entry.shape[1], dtype=torch.bool)


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
    K: Tensor,  # (3, 3) or (B, S + F, 3, 3) normalised
    unit: float,
    cameras: torch.dtype = torch.float64,
) -> Conditioning:
    """Build the conditioning of [context | chunk], (B, S + F), reframed in time and space.

    Poses are expressed relative to the chunk's first camera and in the model's unit, which changes nothing in exact
    arithmetic (only relative cameras enter) and keeps numbers small. WorldPlay's release rounds world poses to the
    model's precision instead and computes with those: ``cameras`` other than float64. The chunk's timesteps are set
    later.
    """
    poses = torch.cat([context.c2w, c2w], 1)
    if cameras == torch.float64:
        poses = torch.linalg.solve(c2w[:, :1], poses)
        poses[..., :3, 3] /= unit
        projection, unprojection = camera_projection(poses.float(), K)
    else:
        poses[..., :3, 3] /= unit
        projection, unprojection = world_projection(invert_se3(poses).to(cameras), K.to(cameras))
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
