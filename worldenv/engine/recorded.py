"""Keys and values of B episodes' clean chunks, each recorded once against the context that it was made in.

What ``worldscape`` attends to: its table says which of them, and they are only placed anew for each chunk.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..dynamics.signals import Track
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig
from ..memory.context import Context, gather
from ..memory.select import Selection
from ..memory.worldscape import WorldScapeMemory
from ..models.kv_cache import PageTable
from ..models.types import KeysValues, TextCache
from ..world.world import World
from .rollout import Prepared, new_pool, prepare


class Recorded:
    """WorldScape's table of every env, and the pages of keys and values that it names."""

    def __init__(
        self,
        world: World,
        config: MemoryConfig,
        bank: MemoryBank,  # which says what led to each latent
        layout: Layout,
        *,
        unit: float,  # metres that one unit of the network's positions is
    ) -> None:
        self.dit, self.config, self.bank, self.layout, self.unit = world.dit, config, bank, layout, unit
        self.latent_shape, self.device = world.latent_shape, world.vae.latent_mean.device
        self.pool = new_pool(world.dit, world.latent_shape, self.device)
        self.store = WorldScapeMemory(config, layout, len(bank.length), pool=self.pool)
        self.store.reserve()

    def read(
        self,
        rows: Tensor,  # (R,) int64
        c2w: Tensor,  # (R, F, 4, 4) poses of the coming chunk
        *,
        store: WorldScapeMemory | None = None,  # instead of its own
        bank_rows: Tensor | None = None,  # (R,) int64: rows of the bank, where they are others
    ) -> tuple[Context, Selection]:
        """Read what these rows' coming chunk attends to."""
        reading = (store or self.store).read(rows, c2w)
        known = gather(self.bank, reading.index, self.layout, rows=rows if bank_rows is None else bank_rows)
        context = replace(known, recorded=PageTable(self.pool, reading.pages))
        return context, Selection(reading.index, reading.retrieved, reading.score)

    def add(
        self,
        rows: Tensor,  # (R,) int64
        recorded: KeysValues,  # each (L, R, F, S, N, head_dim), of a clean chunk
        c2w: Tensor,  # (R, F, 4, 4)
    ) -> None:
        """Keep the keys and values of each row's newest entry."""
        self.store.add(rows, c2w, self.pool.store(*recorded))

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w)
        track: Track,  # each (R, F, ...)
        *,
        K: Tensor,  # (3, 3) normalised
        text: TextCache | None,
    ) -> None:
        """Forget these rows and record this instead, entry by entry."""
        self.store.clear(rows)
        for part in self.layout.parts(latents.shape[1]):
            led = track.part(part)
            context, _ = self.read(rows, led["c2w"])
            self.add(rows, self._prepare(context, led, K, text).record(latents[:, part].to(self.device)), led["c2w"])

    def recache(self, row: int, *, K: Tensor, text: TextCache | None) -> None:
        """Make an env's keys and values anew under another prompt, in order of time, each entry against those of its
        predecessors that it would retrieve.
        """
        if not int(self.store.count[row]):
            return
        keep_all = replace(self.config, gain=-1.0, pool_entries=0, pool_bytes=0)
        scratch = WorldScapeMemory(keep_all, self.layout, 1, pool=self.pool)
        where, only = torch.tensor([row]), torch.zeros(1, dtype=torch.long)
        made, radius = self.store.made[row].clone(), self.store.radius[row].clone()
        for entry in self.store.entry[row, : int(self.store.count[row])]:
            index = self.layout.members(entry)
            index = index[index >= 0][None]
            latents, track = self.bank.latents[where[:, None], index], self.bank.track.at((where[:, None], index))
            context, _ = self.read(only, track["c2w"], store=scratch, bank_rows=where)
            recorded = self._prepare(context, track, K, text).record(latents.to(self.device))
            scratch.made[0] = entry
            scratch.add(only, track["c2w"], self.pool.store(*recorded))
        self.store.take(where, scratch, only)
        scratch.clear(only)
        self.store.made[row], self.store.radius[row] = made, radius

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows keep as tensors with a leading row axis."""
        store = self.store
        width = int(store.count[rows].max())
        pages = store.pages[rows, :width]
        keys, values = self.pool.gather(pages.flatten(1))  # (L, R, width * chunk, S, N, D)
        return {
            "store.entry": store.entry[rows, :width],
            "store.c2w": store.c2w[rows, :width],
            "store.filled": pages >= 0,
            "store.made": store.made[rows],
            "store.radius": store.radius[rows],
            "store.keys": keys.transpose(0, 1),
            "store.values": values.transpose(0, 1),
        }

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Keep in these rows what ``clone`` copied."""
        self.store.clear(rows)
        for i, row in enumerate(rows):
            filled = tensors["store.filled"][i]
            where = filled.flatten()
            pages = torch.full(filled.shape, -1, dtype=torch.int32)
            pages[filled] = self.pool.store(*(tensors[f"store.{n}"][i][:, where] for n in ("keys", "values")))
            entry = tensors["store.entry"][i]
            made, radius = tensors["store.made"][i], tensors["store.radius"][i]
            self.store.fill(row, entry[entry >= 0], tensors["store.c2w"][i], pages, made=made, radius=radius)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Let rows keep what others do; the pages are shared."""
        self.store.take(rows, self.store, source)

    def _prepare(self, context: Context, track: Track, K: Tensor, text: TextCache | None) -> Prepared:
        return prepare(self.dit, context, track=track, latent_shape=self.latent_shape, K=K, unit=self.unit, text=text)
