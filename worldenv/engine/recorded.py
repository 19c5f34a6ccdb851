"""Keys and values of B episodes' clean chunks, each recorded once against the context that it was made in.

What ``worldscape`` and a kept ``recent`` attend to: their tables say which of them, and they are only placed anew for
each chunk.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..dynamics.signals import Track
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig
from ..memory.context import Context, condition, context_mask, gather
from ..memory.recent import RecentMemory
from ..memory.select import Selection
from ..memory.table import EntryTable
from ..memory.worldscape import WorldScapeMemory
from ..models.kv_cache import Cache, PageTable
from ..models.types import KeysValues, TextCache
from ..world.world import World
from .rollout import Prepared, new_pool, prepare, to_device


class Recorded:
    """The table of every env, and the pages of keys and values that it names."""

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
        self.store = self._table(config, len(bank.length))
        self.store.reserve()

    def _table(self, config: MemoryConfig, num_envs: int) -> EntryTable:
        kind = WorldScapeMemory if config.policy == "worldscape" else RecentMemory
        return kind(config, self.layout, num_envs, pool=self.pool)

    def read(
        self,
        rows: Tensor,  # (R,) int64
        track: Track,  # each (R, F, ...), of the coming chunk
        *,
        store: EntryTable | None = None,  # instead of its own
        bank_rows: Tensor | None = None,  # (R,) int64: rows of the bank, where they are others
    ) -> tuple[Context, Selection]:
        """Read what these rows' coming chunk attends to."""
        reading = (store or self.store).read(rows, track)
        known = gather(self.bank, reading.index, self.layout, rows=rows if bank_rows is None else bank_rows)
        context = replace(known, recorded=PageTable(self.pool, reading.pages))
        return context, Selection(reading.index, reading.retrieved, reading.score)

    def add(
        self,
        rows: Tensor,  # (R,) int64
        recorded: KeysValues,  # each (L, R, F, S, N, head_dim), of a clean chunk
        track: Track,  # each (R, F, ...)
    ) -> None:
        """Keep the keys and values of each row's newest entry."""
        self.store.add(rows, track, self.pool.store(*recorded))

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w)
        track: Track,  # each (R, F, ...)
        *,
        K: Tensor,  # (3, 3) normalised
        text: TextCache | None,
    ) -> None:
        """Forget these rows and record this instead: entry by entry, or at once where it is known what each one saw."""
        self.store.clear(rows)
        latents, whole = latents.to(self.device), None
        if isinstance(self.store, RecentMemory) and latents.shape[1]:
            whole = self._at_once(latents, track, K, text)
        for part in self.layout.parts(latents.shape[1]):
            led = track.part(part)
            if whole is not None:
                keys, values = whole
                self.add(rows, (keys[:, :, part], values[:, :, part]), led)
                continue
            context, _ = self.read(rows, led)
            self.add(rows, self._prepare(context, led, K, text).record(latents[:, part]), led)

    def _at_once(self, latents: Tensor, track: Track, K: Tensor, text: TextCache | None) -> KeysValues:
        """Record a clip in one go, each entry against the window before it."""
        entry = self.layout.entry_of(torch.arange(latents.shape[1])).expand(len(latents), -1)
        nothing = Context(latents[:, :0], track.part(slice(0)), entry[:, :0])
        cond = to_device(condition(nothing, track, K=K, unit=self.unit), self.device)
        mask = context_mask(entry, reach=self.store.window).to(self.device)
        return self.dit.record(latents, cond, mask=mask, cache=Cache(), text=text)

    def recache(self, row: int, *, K: Tensor, text: TextCache | None) -> None:
        """Make an env's keys and values anew under another prompt, in order of time, each entry against those of its
        predecessors that it would retrieve.
        """
        if not int(self.store.count[row]):
            return
        keep_all = replace(self.config, gain=-1.0, pool_entries=0, pool_bytes=0)
        scratch = self._table(keep_all, 1)
        where, only = torch.tensor([row]), torch.zeros(1, dtype=torch.long)
        numbers = {name: getattr(self.store, name)[row].clone() for name in self.store.numbers}
        for entry in self.store.entry[row, : int(self.store.count[row])]:
            index = self.layout.members(entry)
            index = index[index >= 0][None]
            latents, track = self.bank.latents[where[:, None], index], self.bank.track.at((where[:, None], index))
            context, _ = self.read(only, track, store=scratch, bank_rows=where)
            recorded = self._prepare(context, track, K, text).record(latents.to(self.device))
            scratch.made[0] = entry
            scratch.add(only, track, self.pool.store(*recorded))
        self.store.take(where, scratch, only)
        scratch.clear(only)
        for name, number in numbers.items():
            getattr(self.store, name)[row] = number

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows keep as tensors with a leading row axis."""
        held = self.store.clone(rows)
        pages = self.store.pages[rows, : held["entry"].shape[1]]
        keys, values = self.pool.gather(pages.flatten(1))  # (L, R, width * chunk, S, N, D)
        held |= {"filled": pages >= 0, "keys": keys.transpose(0, 1), "values": values.transpose(0, 1)}
        return {f"store.{name}": part for name, part in held.items()}

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Keep in these rows what ``clone`` copied."""
        self.store.clear(rows)
        names = ("filled", "keys", "values", *self.store.columns, *self.store.numbers)
        for i, row in enumerate(rows):
            held = {name: tensors[f"store.{name}"][i] for name in names}
            where = held["filled"].flatten()
            pages = torch.full(held["filled"].shape, -1, dtype=torch.int32)
            pages[held["filled"]] = self.pool.store(held["keys"][:, where], held["values"][:, where])
            self.store.fill(row, held, pages)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Let rows keep what others do; the pages are shared."""
        self.store.take(rows, self.store, source)

    def _prepare(self, context: Context, track: Track, K: Tensor, text: TextCache | None) -> Prepared:
        return prepare(self.dit, context, track=track, latent_shape=self.latent_shape, K=K, unit=self.unit, text=text)
