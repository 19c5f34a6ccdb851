"""Entries of B envs in order of time, as tables of pages: what a memory is that keeps keys and values.

An entry is a chunk (or the lone start view) with the pages that hold its keys and values. Which entries stay, and which
of them the coming chunk attends to, is for a kind of memory to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..dynamics.signals import Track
from ..models.kv_cache import PagePool
from .config import Layout, MemoryConfig

RESERVED = 2**31
"""Bytes up to which a pool's pages are allocated at once; larger pools grow as they fill."""


@dataclass(frozen=True)
class Reading:
    """What the coming chunk attends to, in order of time, empty slots (-1) on the left."""

    pages: Tensor  # (B, S) int32: the block table
    index: Tensor  # (B, S) int64: the latent in each slot
    retrieved: Tensor  # (B, k) int64: entries beside the newest ones, best first; -1 for none
    score: Tensor  # (B, k) float64: how well they fit


class EntryTable(ABC):
    """Tables of B envs. Pages are numbers to it; those that are let go are released to the pool, if there is one."""

    columns: tuple[str, ...] = ("entry",)
    """What is kept of each entry beside its pages: tensors (B, capacity, ...) of these names."""
    numbers: tuple[str, ...] = ("made",)
    """What is kept of each env: tensors (B,) of these names."""
    window: int
    """Newest entries that are always read."""

    def __init__(
        self, config: MemoryConfig, layout: Layout, num_envs: int, *, capacity: int, pool: PagePool | None = None
    ) -> None:
        self.config, self.layout, self.pool = config, layout, pool
        self.entry = torch.full((num_envs, capacity), -1)
        self.pages = torch.full((num_envs, capacity, layout.chunk_latents), -1, dtype=torch.int32)
        self.count = torch.zeros(num_envs, dtype=torch.long)
        self.made = torch.zeros(num_envs, dtype=torch.long)  # entries ever added

    @property
    @abstractmethod
    def slots(self) -> int:
        """S, the slots of a context."""

    @abstractmethod
    def add(
        self,
        rows: Tensor,  # (R,) int64
        track: Track,  # each (R, F, ...): what led to the entry's latents
        pages: Tensor,  # (R, F) int32, held by the caller until now
    ) -> None:
        """Append an entry to each row and decide what becomes of older ones."""

    @abstractmethod
    def read(
        self,
        rows: Tensor,  # (R,) int64
        track: Track,  # each (R, F, ...): of the coming chunk
    ) -> Reading:
        """Choose what the coming chunk of these rows attends to."""

    @abstractmethod
    def reserve(self) -> None:
        """Make room for all pages that there can be, once, so that the pool's storage never moves."""

    def _reserve(self, entries: int) -> None:
        """Make room for so many entries of each env, unless that is too much."""
        if self.pool is not None:
            num_pages = len(self.count) * entries * self.layout.chunk_latents
            if num_pages * self.pool.page_bytes <= RESERVED:
                self.pool.reserve(num_pages)

    def clear(self, rows: Tensor) -> None:
        """Forget everything of these rows."""
        self._release(self.pages[rows])
        self.entry[rows], self.pages[rows], self.count[rows] = -1, -1, 0
        for name in self.numbers:
            getattr(self, name)[rows] = 0

    def take(self, rows: Tensor, other: EntryTable, source: Tensor) -> None:
        """Become what rows of another table (or of this one) of the same pool are; the pages are shared."""
        while self.entry.shape[1] < int(other.count[source].max()):
            self._grow()
        width = min(self.entry.shape[1], other.entry.shape[1])
        held = {name: getattr(other, name)[source, :width].clone() for name in (*self.columns, "pages")}
        held |= {name: getattr(other, name)[source].clone() for name in (*self.numbers, "count")}
        if self.pool is not None:
            self.pool.retain(held["pages"])
        self.clear(rows)
        for name, values in held.items():
            whole = getattr(self, name)
            (whole if whole.ndim == 1 else whole[:, :width])[rows] = values

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows hold, each (R, entries, ...) or (R,); pages are the pool's."""
        width = int(self.count[rows].max())
        columns = {name: getattr(self, name)[rows, :width] for name in self.columns}
        return columns | {name: getattr(self, name)[rows] for name in self.numbers}

    def fill(
        self,
        row: Tensor,  # () int64
        held: Mapping[str, Tensor],  # of one row that ``clone`` copied
        pages: Tensor,  # (>= n, C) int32, held by the caller until now
    ) -> None:
        """Put what was copied into an empty row."""
        count = int((held["entry"] >= 0).sum())
        while self.entry.shape[1] < count:
            self._grow()
        for name, values in {**{name: held[name] for name in self.columns}, "pages": pages}.items():
            getattr(self, name)[row, :count] = values[:count]
        for name in self.numbers:
            getattr(self, name)[row] = held[name]
        self.count[row] = count

    def _append(self, rows: Tensor, pages: Tensor) -> Tensor:
        """Put pages behind what each row holds, and return where, (R,)."""
        pages = nn.functional.pad(pages, (self.layout.chunk_latents - pages.shape[1], 0), value=-1)
        if int(self.count[rows].max()) == self.entry.shape[1]:
            self._grow()
        at = self.count[rows]
        self.entry[rows, at], self.pages[rows, at] = self.made[rows], pages
        self.count[rows] += 1
        self.made[rows] += 1
        return at

    def _keep(
        self,
        rows: Tensor,  # (R,)
        kept: Tensor,  # (R, M) bool
    ) -> None:
        """Let the other entries of these rows go and close the gaps."""
        self._release(self.pages[rows][~kept])
        order = (~kept).long().sort(dim=1, stable=True).indices
        for name in (*self.columns, "pages"):
            table = getattr(self, name)
            table[rows] = table[rows[:, None], order]
        gone = kept.sort(dim=1, descending=True).values.logical_not()
        self.entry[rows] = self.entry[rows].masked_fill(gone, -1)
        self.pages[rows] = self.pages[rows].masked_fill(gone[..., None], -1)
        self.count[rows] = (self.entry[rows] >= 0).sum(1)

    def _release(self, pages: Tensor) -> None:
        if self.pool is not None:
            self.pool.release(pages)

    def _laid_out(
        self,
        rows: Tensor,  # (R,) int64
        used: Tensor,  # (R, M) bool
        *,
        lacking: int,  # slots that the earliest entry never fills
    ) -> tuple[Tensor, Tensor]:
        """Lay the pages of the used entries out in time, to the right; return pages and latents, each (R, S)."""
        width, capacity = self.slots + lacking, used.shape[1]
        columns = torch.where(used, torch.arange(capacity), capacity).sort(1).values
        columns = columns[:, : width // self.layout.chunk_latents]
        there = columns < capacity
        columns = columns.clamp(max=capacity - 1)
        index = self.layout.members(self.entry[rows[:, None], columns].where(there, -1)).flatten(1)
        pages = self.pages[rows[:, None], columns].flatten(1)
        order = (index >= 0).long().sort(dim=1, stable=True).indices[:, lacking:]
        index, pages = index.gather(1, order), pages.gather(1, order)
        return torch.where(index >= 0, pages, -1), index

    def _grow(self) -> None:
        for name in (*self.columns, "pages"):
            table = getattr(self, name)
            more = torch.full_like(table, -1) if name in ("entry", "pages") else table
            setattr(self, name, torch.cat([table, more], 1))
