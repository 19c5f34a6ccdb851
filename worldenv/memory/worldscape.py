"""WorldScape's memory: a permanent sink, a pool of selected viewpoints and the most recent chunks, as tables of pages.

An entry is a chunk (or the lone start view): its viewpoint and the pages that hold its keys and values. What leaves the
recent window is offered to the pool; the information gate admits it or lets it go, and when the pool is full farthest
points stay. Rows are tables sorted by time: [sink | pool | window], so entering the pool means staying where one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.kv_cache import PagePool
from .config import Layout, MemoryConfig
from .pool import MAX_GAIN, farthest_points, information_gain, offsets, pose_kernel, similarity

RESERVED = 2**31
"""Bytes up to which a pool's pages are allocated at once; larger pools grow as they fill."""


@dataclass(frozen=True)
class Reading:
    """What the coming chunk attends to, in order of time, empty slots (-1) on the left."""

    pages: Tensor  # (B, S) int32: the block table
    index: Tensor  # (B, S) int64: the latent in each slot
    retrieved: Tensor  # (B, k) int64: entries taken from the pool, best first; -1 for none
    score: Tensor  # (B, k) float64: their similarity


class WorldScapeMemory:
    """Tables of B envs. Pages are numbers to it; those that are let go are released to the pool, if there is one."""

    def __init__(self, config: MemoryConfig, layout: Layout, num_envs: int, *, pool: PagePool | None = None) -> None:
        self.config, self.layout, self.pool = config, layout, pool
        self.window = max(1, config.temporal_latents // layout.chunk_latents)
        self.budget = self._budget(num_envs)
        capacity = 2 + self.window + (self.budget or 16)
        self.entry = torch.full((num_envs, capacity), -1)
        self.c2w = torch.eye(4, dtype=torch.float64).repeat(num_envs, capacity, 1, 1)
        self.pages = torch.full((num_envs, capacity, layout.chunk_latents), -1, dtype=torch.int32)
        self.count = torch.zeros(num_envs, dtype=torch.long)
        self.made = torch.zeros(num_envs, dtype=torch.long)  # entries ever added
        self.radius = torch.zeros(num_envs, dtype=torch.float64)  # how far apart a pool that was full keeps its entries

    @property
    def slots(self) -> int:
        """S, the slots of a context: one latent or chunk of sink, the retrieved chunks, the window."""
        return (1 + self.config.retrieved_chunks + self.window) * self.layout.chunk_latents - self.layout.shift

    @property
    def pool_size(self) -> Tensor:
        """Entries of each env that are neither sink nor recent, (B,)."""
        return (self.count - 1 - self.window).clamp(min=0)

    def _budget(self, num_envs: int) -> int:
        """Return the entries that an env's pool may hold, by number and by bytes; 0 is no limit."""
        config = self.config
        if not config.pool_bytes or self.pool is None:
            return config.pool_entries
        held = config.pool_bytes // (num_envs * self.layout.chunk_latents * self.pool.page_bytes)
        fits = held - 1 - self.window
        if fits < 1:
            raise ValueError(
                f"pool_bytes={config.pool_bytes} holds {held} entries per env, sink and window take {1 + self.window}; "
                "raise it or step fewer envs"
            )
        return min(fits, config.pool_entries or fits)

    def reserve(self) -> None:
        """Make room for all pages that the budget allows, once, so that the pool's storage never moves."""
        if self.pool is None or not self.budget:
            return
        num_pages = len(self.count) * (2 + self.window + self.budget) * self.layout.chunk_latents
        if num_pages * self.pool.page_bytes <= RESERVED:
            self.pool.reserve(num_pages)

    def clear(self, rows: Tensor) -> None:
        """Forget everything of these rows."""
        self._release(self.pages[rows])
        self.entry[rows], self.pages[rows], self.count[rows], self.made[rows], self.radius[rows] = -1, -1, 0, 0, 0

    def take(self, rows: Tensor, other: WorldScapeMemory, source: Tensor) -> None:
        """Become what rows of another table (or of this one) of the same pool are; the pages are shared."""
        while self.entry.shape[1] < int(other.count[source].max()):
            self._grow()
        width = min(self.entry.shape[1], other.entry.shape[1])
        taken = [t[source, :width].clone() for t in (other.entry, other.c2w, other.pages)]
        numbers = [t[source].clone() for t in (other.count, other.made, other.radius)]
        if self.pool is not None:
            self.pool.retain(taken[2])
        self.clear(rows)
        for table, values in zip((self.entry, self.c2w, self.pages), taken, strict=True):
            table[rows, :width] = values
        self.count[rows], self.made[rows], self.radius[rows] = numbers

    def fill(
        self,
        row: Tensor,  # () int64
        entry: Tensor,  # (n,) int64
        c2w: Tensor,  # (>= n, 4, 4)
        pages: Tensor,  # (>= n, C) int32, held by the caller until now
        *,
        made: Tensor,  # () int64
        radius: Tensor,  # () float64
    ) -> None:
        """Put these entries into an empty row."""
        count = len(entry)
        while self.entry.shape[1] < count:
            self._grow()
        self.entry[row, :count], self.c2w[row, :count], self.pages[row, :count] = entry, c2w[:count], pages[:count]
        self.count[row], self.made[row], self.radius[row] = count, made, radius

    def add(
        self,
        rows: Tensor,  # (R,) int64
        c2w: Tensor,  # (R, F, 4, 4) poses of the entry's latents; the middle one stands for it
        pages: Tensor,  # (R, F) int32, held by the caller until now
    ) -> None:
        """Append an entry to each row and decide what happens to the one that leaves the window."""
        if not len(rows):
            return
        pages = nn.functional.pad(pages, (self.layout.chunk_latents - pages.shape[1], 0), value=-1)
        if int(self.count[rows].max()) == self.entry.shape[1]:
            self._grow()
        at = self.count[rows]
        self.entry[rows, at], self.c2w[rows, at], self.pages[rows, at] = (
            self.made[rows],
            c2w[:, c2w.shape[1] // 2].double(),
            pages,
        )
        self.count[rows] += 1
        self.made[rows] += 1
        offered = self.count[rows] - 1 - self.window
        self._gate(rows[offered >= 1], offered[offered >= 1])
        self._prune(rows)

    def _gate(self, rows: Tensor, offered: Tensor) -> None:
        """Let the entries at ``offered`` go that tell nothing new."""
        if not len(rows):
            return
        width = int(offered.max())
        earlier = torch.arange(width) < offered[:, None]
        gain = information_gain(
            self.c2w[rows, offered],
            self.c2w[rows, :width],
            earlier,
            scale=self.config.scale,
            scale_deg=self.config.scale_deg,
        )
        known = gain <= self.config.gain * MAX_GAIN
        apart = self._apart(self.c2w[rows, offered][:, None], self.c2w[rows, :width])[:, 0]
        known |= apart.masked_fill(~earlier, float("inf")).amin(1) < self.radius[rows]
        self._keep(rows[known], torch.arange(self.entry.shape[1]) != offered[known, None])

    def _prune(self, rows: Tensor) -> None:
        """Let a quarter of every overfull pool go, so that farthest points stay; later ones must be as far apart.

        Without that radius the newest entries of a long way, always the closest together, would be the ones to go.
        """
        rows = rows[self.pool_size[rows] > self.budget] if self.budget else rows[:0]
        if not len(rows):
            return
        apart = self._apart(self.c2w[rows], self.c2w[rows])
        columns = torch.arange(self.entry.shape[1])
        pool = (columns >= 1) & (columns < (1 + self.pool_size[rows])[:, None])
        nearest_sink = apart[:, 0].masked_fill(~pool, float("inf")).argmin(1)
        keep = self.budget + 1 - max(1, self.budget // 4)
        kept, self.radius[rows] = farthest_points(apart, pool, nearest_sink, keep)
        self._keep(rows, kept | ~pool)

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        """Return how far viewpoints are apart, metres and degrees over their scales added up."""
        distance, angle = offsets(a, b)
        return distance / self.config.scale + angle.rad2deg() / self.config.scale_deg

    def _keep(
        self,
        rows: Tensor,  # (R,)
        kept: Tensor,  # (R, M) bool
    ) -> None:
        """Let the other entries of these rows go and close the gaps."""
        self._release(self.pages[rows][~kept])
        order = (~kept).long().sort(dim=1, stable=True).indices
        for table in (self.entry, self.c2w, self.pages):
            table[rows] = table[rows[:, None], order]
        gone = kept.sort(dim=1, descending=True).values.logical_not()
        self.entry[rows] = self.entry[rows].masked_fill(gone, -1)
        self.pages[rows] = self.pages[rows].masked_fill(gone[..., None], -1)
        self.count[rows] = (self.entry[rows] >= 0).sum(1)

    def _release(self, pages: Tensor) -> None:
        if self.pool is not None:
            self.pool.release(pages)

    def read(
        self,
        rows: Tensor,  # (R,) int64
        c2w: Tensor,  # (R, F, 4, 4) poses of the coming chunk
    ) -> Reading:
        """Choose sink, retrieved entries and window for these rows."""
        config, stored, entry, count = self.config, self.c2w[rows], self.entry[rows], self.count[rows]
        columns, each = torch.arange(entry.shape[1]), torch.arange(len(rows))
        alike = similarity(
            c2w.double(),
            stored,
            scale=config.scale,
            scale_deg=config.scale_deg,
            direction_weight=config.direction_weight,
            combine=config.combine,
        )
        candidate = (columns >= 1) & (columns < (1 + self.pool_size[rows])[:, None])
        used = (columns == 0) | (columns >= (count - self.window)[:, None])
        used &= columns < count[:, None]
        retrieved, scores = [], []
        for _ in range(config.retrieved_chunks):
            score, chosen = alike.masked_fill(~candidate, float("-inf")).max(1)
            found = score > float("-inf")
            used[each, chosen] |= found
            retrieved.append(entry[each, chosen].where(found, -1))
            scores.append(score.where(found, 0.0))
            taken = stored[each, chosen][:, None]
            twin = pose_kernel(taken, stored, scale=config.scale, scale_deg=config.scale_deg)[:, 0]
            candidate &= (twin <= config.suppress) & (columns != chosen[:, None])
        return self._slots(rows[:, None], used, retrieved, scores)

    def _slots(self, rows: Tensor, used: Tensor, retrieved: Sequence[Tensor], scores: Sequence[Tensor]) -> Reading:
        """Lay the pages of the used entries out in time, to the right."""
        width, capacity = self.slots + self.layout.shift, used.shape[1]
        columns = torch.where(used, torch.arange(capacity), capacity).sort(1).values
        columns = columns[:, : width // self.layout.chunk_latents]
        there = columns < capacity
        columns = columns.clamp(max=capacity - 1)
        index = self.layout.members(self.entry[rows, columns].where(there, -1)).flatten(1)
        pages = self.pages[rows, columns].flatten(1)
        order = (index >= 0).long().sort(dim=1, stable=True).indices[:, self.layout.shift :]
        index, pages = index.gather(1, order), pages.gather(1, order)
        none = torch.zeros(len(used), 0)
        return Reading(
            torch.where(index >= 0, pages, -1),
            index,
            torch.stack(list(retrieved), 1) if retrieved else none.long(),
            torch.stack(list(scores), 1) if scores else none.double(),
        )

    def _grow(self) -> None:
        empty = (torch.full_like(self.entry, -1), self.c2w, torch.full_like(self.pages, -1))
        tables = (self.entry, self.c2w, self.pages)
        self.entry, self.c2w, self.pages = (torch.cat(both, 1) for both in zip(tables, empty, strict=True))
