"""Which past latents the next chunk attends to, where they are encoded anew for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.rng import derive_seed
from ..dynamics.signals import Track
from .bank import REGION, MemoryBank
from .config import Layout, MemoryConfig, num_slots
from .retrieval import own_view, view_points
from .search import Views, all_overlaps, best_overlaps, bound_table, top


@dataclass(frozen=True)
class Selection:
    """The latents in context."""

    index: Tensor  # (B, S) int64, ascending, -1 in empty slots on the left
    retrieved: Tensor  # (B, k) int64: retrieved entries, best first, -1 for none
    score: Tensor  # (B, k) float64: their overlap, or likeness

    @classmethod
    def nothing(cls, num_rows: int) -> Selection:
        """Return a selection of nothing, for so many rows."""
        none = torch.full((num_rows, 0), -1)
        return cls(none, none, none.double())

    def with_rows(self, rows: Tensor, other: Selection) -> Selection:
        """Return the same with another selection, of as many rows, in these rows, which ascend."""
        if len(rows) == len(self.index):
            return other
        fields = {}
        for name, nothing, left in (("index", -1, True), ("retrieved", -1, False), ("score", 0, False)):
            both = [getattr(self, name), getattr(other, name)]
            width = max(part.shape[1] for part in both)
            pads = [(width - part.shape[1], 0) if left else (0, width - part.shape[1]) for part in both]
            whole, new = (
                torch.nn.functional.pad(part, pad, value=nothing) for part, pad in zip(both, pads, strict=True)
            )
            fields[name] = whole.index_copy(0, rows, new)
        return Selection(**fields)

    def copied(self, source: Tensor, rows: Tensor) -> Selection:
        """Return the same with some rows' selections in other rows too."""
        parts = (self.index, self.retrieved, self.score)
        return Selection(*(part.index_copy(0, rows, part[source]) for part in parts))

    def without(self, rows: Tensor) -> Selection:
        """Return the same with nothing selected in these rows."""
        fields = (self.index.clone(), self.retrieved.clone(), self.score.clone())
        for tensor, nothing in zip(fields, (-1, -1, 0), strict=True):
            tensor[rows] = nothing
        return Selection(*fields)


@dataclass(frozen=True)
class Query:
    """What the coming chunk asks of the memory."""

    track: Track  # each (B, F, ...): what leads to its latents
    seeds: Sequence[int] = ()  # one per env for ``random``, which draws anew at every history length
    points: Tensor | None = None  # (P, 3) of the overlap's estimate; None draws them from the policy's seed
    given: Tensor | None = None  # (B, E) true scores of all entries, for the oracle

    @property
    def c2w(self) -> Tensor:
        """Its poses, (B, F, 4, 4)."""
        return self.track["c2w"]


Policy = Callable[[MemoryBank, Query, MemoryConfig, Layout], Selection]
"""Chooses the context of the coming chunk for every row of the bank: ``num_slots`` latents, ascending, -1 in empty
slots on the left. Pictures are read by ``bank.latents_at`` and ``bank.shown``: the rows may be some of another bank."""
BY_POSE = ("worldplay", "worldscape", "oracle")
"""Policies that ask where the camera was."""
Choose = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps the number of candidates of every row (B,) to the entries chosen and their scores, each (B, k)."""
FEW = 32
"""Candidates up to which counting all of them is faster than making the table of bounds."""


def select(
    bank: MemoryBank,  # of B envs
    query: Query,
    config: MemoryConfig,
    layout: Layout,
) -> Selection:
    """Choose the context of the coming chunk for every env, under any named policy that encodes it anew.

    Raises:
        ValueError: for ``oracle`` without true scores.
    """
    return SELECT[config.policy](bank, query, config, layout)


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
    radius, fov_deg, keep = config.radius, config.fov_deg, config.retrieved_chunks
    if query.points is None:
        points = view_points(config.num_points, radius=radius, seed=config.seed, fov_deg=fov_deg)
    else:
        points = own_view(query.points, fov_deg)

    def choose(count: Tensor) -> tuple[Tensor, Tensor]:
        near, penalty = None, None
        if int(count.max()) <= FEW or query.points is not None or config.distance_weight:
            views = _views(bank, torch.arange(int(count.max())), layout)
        else:
            views, near = _views_near(bank, query.c2w, count, config, layout)
        if config.distance_weight:
            apart = (bank.c2w[:, views.index, :3, 3].mean(2) - query.c2w[:, None, :, :3, 3].mean(2)).norm(dim=-1)
            penalty = config.distance_weight * apart / radius
        if int(count.max()) <= FEW or query.points is not None:
            score = all_overlaps(query.c2w, views, points, fov_deg=fov_deg, radius=radius, penalty=penalty)
            return _best(score, count, config)
        table = bound_table(config.num_points, radius=radius, seed=config.seed, fov_deg=fov_deg)
        return best_overlaps(
            query.c2w,
            views,
            count,
            points,
            table,
            keep=keep,
            fov_deg=fov_deg,
            radius=radius,
            penalty=penalty,
            near=near,
        )

    return _retrieve(bank, config, layout, choose)


def _views(bank: MemoryBank, entries: Tensor, layout: Layout) -> Views:
    """Let the first and the third latent stand for each of the entries (E,)."""
    places = entries[:, None] * layout.chunk_latents - layout.shift + torch.tensor([0, layout.chunk_latents // 2])
    return Views(bank.c2w, places.clamp_(min=0), entries)  # entry 0 may be latent 0 alone


def _views_near(
    bank: MemoryBank, query: Tensor, count: Tensor, config: MemoryConfig, layout: Layout
) -> tuple[Views, Tensor]:
    """Return the views of entries that any row may see again, and which row may, (B, E) bool; work follows the map."""
    regions = bank.near(query[:, :, :3, 3], 2 * config.radius + 1e-3)
    latents = regions.any(0).nonzero() * REGION + torch.arange(REGION)
    wanted = torch.zeros(int(count.max()) + REGION, dtype=torch.bool)
    wanted[: config.retrieved_chunks] = True  # what nobody can see scores 0, and of those the earliest are taken
    wanted[layout.entry_of(latents).clamp_(max=len(wanted) - 1)] = True
    views = _views(bank, wanted[: int(count.max())].nonzero()[:, 0], layout)
    return views, regions[:, views.index // REGION].any(-1)


def _best(score: Tensor, count: Tensor, config: MemoryConfig) -> tuple[Tensor, Tensor]:
    """Return the best of the first ``count`` entries of each row."""
    exists = torch.arange(score.shape[1]) < count[:, None]
    return top(score.double().masked_fill(~exists, float("-inf")), config.retrieved_chunks)


def _select_random(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    def choose(count: Tensor) -> tuple[Tensor, Tensor]:
        keys = query.seeds or range(len(count))
        rows = [
            torch.rand(1, generator=torch.Generator().manual_seed(derive_seed(config.seed, key, int(length))))
            for key, length in zip(keys, bank.length, strict=True)
        ]
        # Each row prefers one of its candidates: the closest from below to a uniform draw over them.
        favourite = (torch.cat(rows) * count).long()
        entries = torch.arange(int(count.max()))
        chosen, _ = _best(-(entries - favourite[:, None]).abs(), count, config)
        return chosen, torch.zeros(chosen.shape, dtype=torch.float64)  # chance has no score

    return _retrieve(bank, config, layout, choose)


def _select_oracle(bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
    given = query.given
    if given is None:
        raise ValueError("policy 'oracle' needs the true visibility, which only an evaluation with ground truth has")
    return _retrieve(bank, config, layout, lambda count: _best(given[:, : int(count.max())], count, config))


def _num_candidates(length: Tensor, config: MemoryConfig, layout: Layout) -> Tensor:
    """Count the entries that lie wholly before the temporal window, (B,); none while everything fits."""
    count = (length - config.temporal_latents + layout.shift).div(layout.chunk_latents, rounding_mode="floor")
    return count.where(length > num_slots(config, layout.chunk_latents), 0)


def _retrieve(bank: MemoryBank, config: MemoryConfig, layout: Layout, choose: Choose) -> Selection:
    """Combine the temporal window with the best-scoring older entries; everything while it fits."""
    slots, length = num_slots(config, layout.chunk_latents), bank.length
    everything = _recent(length, slots, slots)
    count = _num_candidates(length, config, layout)
    if not config.retrieved_chunks or int(count.max()) == 0:
        return _without_retrieval(everything)
    chosen, scores = choose(count)
    short = config.retrieved_chunks - chosen.shape[1]
    padded = torch.nn.functional.pad(chosen, (0, short), value=-1)
    window = _recent(length, config.temporal_latents, config.temporal_latents)
    merged = torch.cat([layout.members(padded).flatten(1), window], 1).sort(1).values
    index = torch.where((length > slots)[:, None], merged, everything)
    return Selection(index, chosen, scores)


SELECT: dict[str, Policy] = {
    "worldplay": _select_worldplay,
    "none": _select_none,
    "recent": _select_recent,
    "random": _select_random,
    "oracle": _select_oracle,
}
