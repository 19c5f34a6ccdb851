"""The newest chunks alone, whose keys and values are kept: nothing is encoded anew, and nothing older is remembered.

What ``recent`` is with ``kept``: each chunk is recorded once against the window before it, as training's windows are
masked (``training.windows``), so that through the layers it knows of more than its window holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dynamics.signals import Track
from ..models.kv_cache import PagePool
from .config import Layout, MemoryConfig, kept_entries
from .table import EntryTable, Reading


class RecentMemory(EntryTable):
    """The window of B envs."""

    def __init__(self, config: MemoryConfig, layout: Layout, num_envs: int, *, pool: PagePool | None = None) -> None:
        self.window = kept_entries(config, layout.chunk_latents)
        super().__init__(config, layout, num_envs, capacity=self.window + 1, pool=pool)

    @property
    def slots(self) -> int:
        """S, the slots of a context: whole chunks."""
        return self.window * self.layout.chunk_latents

    def reserve(self) -> None:
        """Make room for the window."""
        self._reserve(self.window + 1)

    def add(self, rows: Tensor, track: Track, pages: Tensor) -> None:
        """Append an entry to each row; what leaves the window is forgotten."""
        if not len(rows):
            return
        self._append(rows, pages)
        full = rows[self.count[rows] > self.window]
        if len(full):
            self._keep(full, torch.arange(self.entry.shape[1]) >= (self.count[full] - self.window)[:, None])

    def read(self, rows: Tensor, track: Track) -> Reading:
        """Read the window; a state of a longer one may have put more into the table."""
        columns, count = torch.arange(self.entry.shape[1]), self.count[rows][:, None]
        used = (columns < count) & (columns >= count - self.window)
        pages, index = self._laid_out(rows, used, lacking=0)
        none = torch.full((len(rows), 0), -1)
        return Reading(pages, index, none, none.double())
