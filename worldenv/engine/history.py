"""What B episodes remember, behind one interface for every memory policy.

``worldplay`` and its comparisons encode the selected latents anew for each chunk. ``worldscape`` records the keys and
values of each clean chunk once, against the context it was made in, and only places them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..dynamics.spec import WorldSpec
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig, num_slots
from ..memory.context import Context, gather
from ..memory.select import Query, Selection, select
from ..memory.worldscape import WorldScapeMemory
from ..models.kv_cache import Cache, PageTable
from ..models.paged_cache import PagedCache
from ..models.types import KeysValues, TextCache
from ..world.world import World
from .render import Renderer
from .rollout import Prepared, Rendered, Staged, encode, new_cache, new_pool, prepare, stage

Edit = Callable[[Context], Context]


class History:
    """Latents, poses and labels of B episodes, and their keys and values where the policy keeps them."""

    def __init__(self, world: World, spec: WorldSpec, config: MemoryConfig, num_envs: int) -> None:
        self.dit, self.unit, self.latent_shape = world.dit, spec.unit, world.latent_shape
        self.config, self.layout = config.for_world(spec), Layout(spec.chunk_latents, not spec.start_in_chunk)
        self.device = world.vae.latent_mean.device
        self.renderer = Renderer(world, spec, self.config) if world.renders(config) else None
        size = (spec.height, spec.width) if self.renderer is not None else None
        self.bank = MemoryBank.empty(num_envs, world.latent_shape, max_bytes=config.bank_bytes, frame_size=size,
                                      every=spec.chunk_latents)  # fmt: skip
        self.store: WorldScapeMemory | None = None
        if config.policy == "worldscape":
            pool = new_pool(world.dit, world.latent_shape, self.device)
            self.store = WorldScapeMemory(self.config, self.layout, num_envs, pool=pool)
            self.store.reserve()
        self.selection: Selection | None = None  # of the newest chunk
        self.sources: Tensor | None = None  # (B, sources): latents whose views were rendered into it
        self.points: Tensor | None = None  # (P, 3): fixed points for the overlap, drawn from the policy's seed if None
        self.oracle: Callable[[Tensor], Tensor] | None = None  # lengths (B,) to true scores (B, E), for evaluation
        self.edit: Edit | None = None  # what-if experiments of the evaluation
        self._cache: Cache | None = None

    def explain(self) -> dict[str, Tensor]:
        """Return what the newest chunk attended to: ``entries`` (B, S) in context, -1 in empty slots; ``retrieved``
        (B, k), their ``score`` and the pose they are stored under, ``retrieved_c2w`` (B, k, 4, 4).
        """
        batch, keep = len(self.bank.length), self.config.retrieved_chunks
        entries = torch.full((batch, self.slots), -1)
        retrieved, score = torch.full((batch, keep), -1), torch.zeros(batch, keep, dtype=torch.float64)
        if self.selection is not None:
            entries = self.layout.entry_of(self.selection.index)
            found = self.selection.retrieved.shape[1]
            retrieved[:, :found], score[:, :found] = self.selection.retrieved, self.selection.score
        middle = self.layout.members(retrieved)[..., self.layout.chunk_latents // 2]
        c2w = self.bank.c2w[torch.arange(batch)[:, None], middle.clamp(min=0)]
        return {"entries": entries, "retrieved": retrieved, "score": score, "retrieved_c2w": c2w}

    @property
    def slots(self) -> int:
        """S, the slots of a context."""
        return num_slots(self.config, self.layout.chunk_latents) if self.store is None else self.store.slots

    def stage(
        self,
        c2w: Tensor,  # (B, F, 4, 4) poses of the coming chunk, or of a window of chunks
        labels: Tensor,  # (B, F)
        *,
        K: Tensor,  # (3, 3) normalised
        text: TextCache | None = None,
        seeds: Sequence[int] = (),
        hidden: Tensor | None = None,  # (B,) bool: rows whose lone start view is no context
    ) -> Staged:
        """Choose the context of every row's coming chunk or window."""
        if self.store is not None:
            context, self.selection = self._recorded(self.store, torch.arange(len(c2w)), c2w)
        else:
            bank = self.bank if hidden is None else self.bank.with_length(self.bank.length.masked_fill(hidden, 0))
            given = None if self.oracle is None else self.oracle(bank.length)
            self.selection = select(bank, Query(c2w, seeds, self.points, given), self.config, self.layout)
            first = None if self.config.reframe else bank.length
            context = gather(bank, self.selection.index, self.layout, first=first)
        if self.edit is not None:
            context = self.edit(context)
        if self._cache is None:
            self._cache = self._new_cache(*c2w.shape[:2])
        staged = stage(self.dit, context, c2w=c2w, labels=labels, K=K, unit=self.unit, text=text)
        return staged if self.renderer is None else replace(staged, rendered=self._rendered(self.renderer, c2w))

    def _rendered(self, renderer: Renderer, c2w: Tensor) -> Rendered:
        """Render what comes from views of the latents just selected."""
        assert self.selection is not None
        self.sources = renderer.sources(self.bank, self.selection.index, c2w)
        return renderer(self.bank, self.sources, c2w)

    def show(
        self,
        rows: Tensor,  # (R,) int64
        frames: Tensor,  # (R, F, H, W, 3) uint8: the last frame of each of these rows' newest latents
        *,
        given: bool = False,
    ) -> None:
        """Keep what the newest entries show, if memory is rendered; all that the rows hold may be ``given``."""
        if self.renderer is None or not len(rows):
            return
        count, chunk = frames.shape[1], self.layout.chunk_latents
        ends = frames[:, (count - 1) % chunk :: chunk]
        behind = torch.arange(count - 1 - (count - 1) % chunk, -1, -chunk)
        self.bank.show(rows, self.bank.length[rows, None] - 1 - behind, ends, self.renderer.depth(ends))
        if given:
            self.bank.given[rows] = self.bank.length[rows]

    def encode(self, staged: Staged) -> Prepared:
        """Encode the context of every row into the cache that all chunks share."""
        assert self._cache is not None
        return encode(self.dit, staged, self._cache, size=self.latent_shape[1:])

    @property
    def records(self) -> bool:
        """Whether the policy keeps keys and values."""
        return self.store is not None

    @property
    def address(self) -> tuple[int, ...]:
        """Where kept keys and values lie; another one when they have moved or are more."""
        pool = self._cache.pool if isinstance(self._cache, PagedCache) else self.store and self.store.pool
        return (pool.keys.data_ptr(), pool.values.data_ptr(), pool.keys.shape[1]) if pool else ()

    def record(
        self,
        rows: Tensor,  # (R,) int64
        recorded: KeysValues | None,  # each (L, R, F, S, N, head_dim), of the whole chunk that was staged
        c2w: Tensor,  # (R, F, 4, 4)
    ) -> None:
        """Keep the keys and values of a clean chunk, if the policy does."""
        if self.store is not None:
            assert self.store.pool is not None
            assert recorded is not None
            self.store.add(rows, c2w, self.store.pool.store(*recorded))

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w): the start view, or a whole clip; F = 0 begins with nothing
        c2w: Tensor,  # (R, F, 4, 4)
        labels: Tensor,  # (R, F)
        *,
        K: Tensor,
        text: TextCache | None = None,
    ) -> None:
        """Forget these rows and remember this instead."""
        self.bank.clear(rows)
        self.bank.append(rows, latents, c2w, labels)
        if self.selection is not None:
            self.selection = self.selection.without(rows)
        if self.store is None:
            return
        self.store.clear(rows)
        for part in self.layout.parts(latents.shape[1]):
            context, _ = self._recorded(self.store, rows, c2w[:, part])
            prepared = self._prepare(context, c2w[:, part], labels[:, part], K, text)
            self.record(rows, prepared.record(latents[:, part].to(self.device)), c2w[:, part])

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows remember as a dictionary of tensors, each with a leading row axis."""
        longest = int(self.bank.length[rows].max())
        latents, c2w, labels = (part[rows, :longest] for part in self.bank.parts())
        tensors = {"latents": latents, "c2w": c2w, "labels": labels, "length": self.bank.length[rows]}
        if self.renderer is not None:
            used = self.bank.slots_of(longest)
            tensors |= {f"views.{name}": part[rows, :used] for name, part in self.bank.views().items()}
            tensors["views.given"] = self.bank.given[rows]
        if self.store is None:
            return tensors
        assert self.store.pool is not None
        width = int(self.store.count[rows].max())
        pages = self.store.pages[rows, :width]
        keys, values = self.store.pool.gather(pages.flatten(1))  # (L, R, width * chunk, S, N, D)
        return tensors | {
            "store.entry": self.store.entry[rows, :width], "store.c2w": self.store.c2w[rows, :width],
            "store.filled": pages >= 0, "store.made": self.store.made[rows], "store.radius": self.store.radius[rows],
            "store.keys": keys.transpose(0, 1), "store.values": values.transpose(0, 1),
        }  # fmt: skip

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Remember in these rows what ``clone`` copied."""
        self.bank.clear(rows)
        self.bank.append(rows, tensors["latents"], tensors["c2w"], tensors["labels"])
        if self.renderer is not None:
            views = tensors["views.frames"], tensors["views.depth"]
            self.bank.show(rows, (self.bank.every * torch.arange(views[0].shape[1])).expand(len(rows), -1), *views)
            self.bank.given[rows] = tensors["views.given"]
        self.bank.length[rows] = tensors["length"]
        if self.store is not None:
            self._restore_store(self.store, rows, tensors)

    def _restore_store(self, store: WorldScapeMemory, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        assert store.pool is not None
        store.clear(rows)
        for i, row in enumerate(rows):
            filled = tensors["store.filled"][i]
            where = filled.flatten()
            pages = torch.full(filled.shape, -1, dtype=torch.int32)
            pages[filled] = store.pool.store(*(tensors[f"store.{n}"][i][:, where] for n in ("keys", "values")))
            entry = tensors["store.entry"][i]
            made, radius = tensors["store.made"][i], tensors["store.radius"][i]
            store.fill(row, entry[entry >= 0], tensors["store.c2w"][i], pages, made=made, radius=radius)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Let rows remember what others do; the pages of keys and values are shared."""
        self.bank.fork(source, rows)
        if self.store is not None:
            self.store.take(rows, self.store, source)

    def recache(self, row: int, *, K: Tensor, text: TextCache | None) -> None:
        """Make an env's keys and values anew under another prompt; entries, poses and pictures stay.

        In order of time, each entry against those of its predecessors that it would retrieve.
        """
        if self.store is None or not int(self.store.count[row]):
            return
        keep_all = replace(self.config, gain=-1.0, pool_entries=0, pool_bytes=0)
        pool = self.store.pool
        assert pool is not None
        scratch = WorldScapeMemory(keep_all, self.layout, 1, pool=pool)
        where, only = torch.tensor([row]), torch.zeros(1, dtype=torch.long)
        made, radius = self.store.made[row].clone(), self.store.radius[row].clone()
        for entry in self.store.entry[row, : int(self.store.count[row])]:
            index = self.layout.members(entry)
            index = index[index >= 0][None]
            latents, c2w, labels = (t[where[:, None], index] for t in self.bank.parts())
            context, _ = self._recorded(scratch, only, c2w, bank_rows=where)
            recorded = self._prepare(context, c2w, labels, K, text).record(latents.to(self.device))
            scratch.made[0] = entry
            scratch.add(only, c2w, pool.store(*recorded))
        self.store.take(where, scratch, only)
        scratch.clear(only)
        self.store.made[row], self.store.radius[row] = made, radius

    def _recorded(
        self, store: WorldScapeMemory, rows: Tensor, c2w: Tensor, *, bank_rows: Tensor | None = None
    ) -> tuple[Context, Selection]:
        """Read a store's rows; poses and labels come from the bank."""
        assert store.pool is not None
        reading = store.read(rows, c2w)
        known = gather(self.bank, reading.index, self.layout, rows=rows if bank_rows is None else bank_rows)
        context = replace(known, recorded=PageTable(store.pool, reading.pages))
        return context, Selection(reading.index, reading.retrieved, reading.score)

    def _new_cache(self, batch: int, num_latents: int) -> Cache:
        """Make what chunks are denoised with: pages beside those that are kept, if kernels read them, else copies."""
        if not self.dit.reads_pages:
            return new_cache(self.dit, (batch, self.slots + num_latents, *self.latent_shape), self.device)
        if self.store is None:
            pool = new_pool(self.dit, self.latent_shape, self.device)
            return PagedCache(pool, batch=batch, num_slots=self.slots, num_latents=num_latents)
        assert self.store.pool is not None
        return PagedCache(self.store.pool, batch=batch, num_slots=0, num_latents=num_latents)

    def _prepare(self, context: Context, c2w: Tensor, labels: Tensor, K: Tensor, text: TextCache | None) -> Prepared:
        return prepare(
            self.dit, context, c2w=c2w, labels=labels, latent_shape=self.latent_shape, K=K, unit=self.unit, text=text
        )
