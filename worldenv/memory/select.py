"""Which past latents the next chunk attends to, where they are encoded anew for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.rng import derive_seed
from .bank import MemoryBank
from .config import Layout, MemoryConfig, num_slots
from .retrieval import fov_overlap, view_points


@dataclass(frozen=True)
class Selection:
    """The latents in context."""

    index: Tensor  # (B, S) int64, ascending, -1 in empty slots on the left
    retrieved: Tensor  # (B, k) int64: retrieved entries, best first, -1 for none
    score: Tensor  # (B, k) float64: their overlap, or likeness


@dataclass(frozen=True)
class Query:
    """What the coming chunk asks of the memory."""

    c2w: Tensor  # (B, F, 4, 4) its poses
    seeds: Sequence[int] = ()  # one per env for ``random``, which draws anew at every history length
    points: Tensor | None = None  # (P, 3) of the overlap's estimate; None draws them from the policy's seed
    given: Tensor | None = None  # (B, E) true scores of all entries, for the oracle


Score = Callable[[Tensor], Tensor]
"""Maps candidate view indices (B, E, V) of latents to scores (B, E)."""


def select(
    bank: MemoryBank,  # of B envs
    query: Query,
    config: MemoryConfig,
    layout: Layout,
) -> Selection:
    """Choose the context of the coming chunk for every env, under any policy that encodes it anew.

    Raises:
        ValueError: for ``oracle`` without true scores.
    """
    return _SELECT[config.policy](bank, query, config, layout)


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
    none = torch.full((len(index), 0), -1)
    return Selection(index, none, torch.zeros(len(index), 0, dtype=torch.float64))


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


def _select_oracle(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    given = query.given
    if given is None:
        raise ValueError("policy 'oracle' needs the true visibility, which only an evaluation with ground truth has")
    return _retrieve(bank, config, layout, lambda entries: given.double().gather(1, entries))


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
    return Selection(index, chosen, scores.gather(1, order).where(chosen >= 0, 0))


_SELECT: dict[str, Callable[[MemoryBank, Query, MemoryConfig, Layout], Selection]] = {
    "worldplay": _select_worldplay,
    "none": _select_none,
    "recent": _select_recent,
    "random": _select_random,
    "oracle": _select_oracle,
}
