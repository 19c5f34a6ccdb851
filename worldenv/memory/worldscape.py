"""WorldScape's memory: a permanent sink, a pool of selected viewpoints and the most recent chunks, as tables of pages.

An entry is a chunk (or the lone start view): its viewpoint and the pages that hold its keys and values. What leaves the
recent window is offered to the pool; the information gate admits it or lets it go, and when the pool is full farthest
points stay. Rows are tables sorted by time: [sink | pool | window], so entering the pool means staying where one is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dynamics.signals import Track
from ..models.kv_cache import PagePool
from .config import Layout, MemoryConfig
from .pool import MAX_GAIN, farthest_points, information_gain, offsets, pose_kernel, similarity
from .table import EntryTable, Reading


class WorldScapeMemory(EntryTable):
    """Sink, pool and window of B envs."""

    columns = ("entry", "c2w")
    numbers = ("made", "radius")

    def __init__(self, config: MemoryConfig, layout: Layout, num_envs: int, *, pool: PagePool | None = None) -> None:
        self.window = max(1, config.temporal_latents // layout.chunk_latents)
        self.budget = self._budget(config, layout, num_envs, pool)
        super().__init__(config, layout, num_envs, capacity=2 + self.window + (self.budget or 16), pool=pool)
        self.c2w = torch.eye(4, dtype=torch.float64).repeat(num_envs, self.entry.shape[1], 1, 1)
        self.radius = torch.zeros(num_envs, dtype=torch.float64)  # how far apart a pool that was full keeps its entries

    @property
    def slots(self) -> int:
        """S, the slots of a context: one latent or chunk of sink, the retrieved chunks, the window."""
        return (1 + self.config.retrieved_chunks + self.window) * self.layout.chunk_latents - self.layout.shift

    @property
    def pool_size(self) -> Tensor:
        """Entries of each env that are neither sink nor recent, (B,)."""
        return (self.count - 1 - self.window).clamp(min=0)

    def _budget(self, config: MemoryConfig, layout: Layout, num_envs: int, pool: PagePool | None) -> int:
        """Return the entries that an env's pool may hold, by number and by bytes; 0 is no limit."""
        if not config.pool_bytes or pool is None:
            return config.pool_entries
        held = config.pool_bytes // (num_envs * layout.chunk_latents * pool.page_bytes)
        fits = held - 1 - self.window
        if fits < 1:
            raise ValueError(
                f"pool_bytes={config.pool_bytes} holds {held} entries per env, sink and window take {1 + self.window}; "
                "raise it or step fewer envs"
            )
        return min(fits, config.pool_entries or fits)

    def reserve(self) -> None:
        """Make room for all pages that the budget allows, if there is one."""
        if self.budget:
            self._reserve(2 + self.window + self.budget)

    def add(
        self,
        rows: Tensor,  # (R,) int64
        track: Track,  # each (R, F, ...); the pose of the middle one stands for the entry
        pages: Tensor,  # (R, F) int32, held by the caller until now
    ) -> None:
        """Append an entry to each row and decide what happens to the one that leaves the window."""
        if not len(rows):
            return
        at = self._append(rows, pages)
        self.c2w[rows, at] = track["c2w"][:, track["c2w"].shape[1] // 2].double()
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

    def read(
        self,
        rows: Tensor,  # (R,) int64
        track: Track,  # each (R, F, ...), of the coming chunk
    ) -> Reading:
        """Choose sink, retrieved entries and window for these rows."""
        config, stored, entry, count = self.config, self.c2w[rows], self.entry[rows], self.count[rows]
        columns, each = torch.arange(entry.shape[1]), torch.arange(len(rows))
        alike = similarity(
            track["c2w"].double(),
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
        pages, index = self._laid_out(rows, used, lacking=self.layout.shift)
        none = torch.zeros(len(used), 0)
        return Reading(
            pages,
            index,
            torch.stack(retrieved, 1) if retrieved else none.long(),
            torch.stack(scores, 1) if scores else none.double(),
        )
