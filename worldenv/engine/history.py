"""What B episodes remember, behind one interface for every memory policy: ``stage``, ``encode``, ``record``.

``worldplay`` and its comparisons encode the selected latents anew for each chunk. ``worldscape``, and ``recent`` where
it is ``kept``, record the keys and values of each clean chunk once, against the context it was made in, and only place
them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..diffusion.schedule import SamplerConfig
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from ..geometry.occupancy import Occupancy
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig, num_slots
from ..memory.context import Context, gather
from ..memory.pool import information_gain
from ..memory.select import BY_POSE, Policy, Query, Selection, select
from ..memory.table import EntryTable
from ..memory.worldscape import WorldScapeMemory
from ..models.kv_cache import Cache
from ..models.paged_cache import PagedCache
from ..models.types import KeysValues, TextCache
from ..world.world import World
from .recorded import Recorded
from .rollout import Prepared, Staged, encode, new_cache, new_pool, stage
from .views import Views

Edit = Callable[[Context], Context]


class History:
    """Latents of B episodes and what led to them, and their keys and values where the policy keeps them.

    Raises:
        ValueError: for a policy that asks where the camera was, in a world without one.
    """

    def __init__(
        self,
        world: World,
        spec: WorldSpec,
        config: MemoryConfig,
        num_envs: int,
        *,
        choose: Policy | None = None,  # instead of the policy that ``config`` names
        sampler: SamplerConfig | None = None,  # by default the world's own
        walls: bool = False,  # whether to keep what is solid
    ) -> None:
        if config.policy in BY_POSE and choose is None and not spec.has_camera:
            raise ValueError(
                f"memory policy {config.policy!r} asks where the camera was, and this world takes "
                f"{', '.join(spec.takes) or 'nothing'}; choose recent, none or random, or pass a policy of your own"
            )
        sized = world.config.dit
        if config.keeps and choose is None and (sized.pose_video or sized.camera_rays):
            raise ValueError(
                f"memory policy {config.policy!r} keeps keys and values for any place, and this world's tokens know "
                "their own (pose_video, camera_rays); choose another"
            )
        self.dit, self.spec, self.unit, self.latent_shape = world.dit, spec, spec.unit, world.latent_shape
        self.choose: Policy = select if choose is None else choose
        self.config, self.layout = config.for_world(spec), Layout(spec.chunk_latents, not spec.start_in_chunk)
        self.device = world.vae.latent_mean.device
        renders = world.renders(config)
        self.bank = MemoryBank.empty(
            world.latent_shape,
            spec.still(num_envs),
            max_bytes=config.bank_bytes,
            frame_size=(spec.height, spec.width) if renders else None,
            every=spec.chunk_latents,
        )
        self.views = Views(world, spec, self.config, self.bank, self.layout, walls=walls) if renders else None
        kept = config.keeps and choose is None
        self.recorded = Recorded(world, self.config, self.bank, self.layout, unit=self.unit) if kept else None
        self.selection: Selection | None = None  # of the newest chunk
        self.points: Tensor | None = None  # (P, 3): fixed points for the overlap, drawn from the policy's seed if None
        self.oracle: Callable[[Tensor], Tensor] | None = None  # lengths (B,) to true scores (B, E), for evaluation
        self.edit: Edit | None = None  # what-if experiments of the evaluation
        self._cache: Cache | None = None
        sampler = world.config.sampler if sampler is None else sampler
        self._num_latents = spec.chunk_latents * (sampler.num_steps if sampler.rolling else 1)  # of a chunk or a window

    def explain(self) -> dict[str, Tensor]:
        """Return what the newest chunk attended to: ``entries`` (B, S) in context, -1 in empty slots; ``retrieved``
        (B, k), their ``score`` and the pose they are stored under, ``retrieved_c2w`` (B, k, 4, 4); with a camera,
        ``information_gain`` (B,); where memory is rendered, ``rendered`` (B, sources), the entries whose views were.
        """
        batch, keep = len(self.bank.length), self.config.retrieved_chunks
        entries = torch.full((batch, self.slots), -1)
        retrieved, score = torch.full((batch, keep), -1), torch.zeros(batch, keep, dtype=torch.float64)
        if self.selection is not None:
            entries = self.layout.entry_of(self.selection.index)
            count = self.selection.retrieved.shape[1]
            retrieved[:, :count], score[:, :count] = self.selection.retrieved, self.selection.score
        middle = self.layout.members(retrieved)[..., self.layout.chunk_latents // 2]
        found = self.bank.track.at((torch.arange(batch)[:, None], middle.clamp(min=0)))
        stored = {f"retrieved_{name}": found[name] for name in ("c2w",) if name in found}
        rendered = {} if self.views is None else {"rendered": self.layout.entry_of(self.views.sources)}
        gain = {"information_gain": self.information_gain()} if self.spec.has_camera else {}
        return {"entries": entries, "retrieved": retrieved, "score": score, **stored, **gain, **rendered}

    def information_gain(self) -> Tensor:
        """Return what the newest entry's viewpoint adds, (B,) nats: what WorldScape's gate asks of it in the end.

        To the viewpoints that ``worldscape`` kept before it, sink, pool and window. Other policies keep all there ever
        was, and what a view adds to that takes the longer to tell the longer one has walked: there it is to what was in
        context, where the likest of the past are. Nothing known is the most, ``MAX_GAIN``.
        """
        chunk, rows = self.layout.chunk_latents, torch.arange(len(self.bank.length))
        if isinstance(self.store, WorldScapeMemory):
            stored = self.store.c2w
            valid = torch.arange(stored.shape[1]) < (self.store.count - 1)[:, None]
        else:
            chosen = self.selection or Selection.nothing(len(rows))
            stored, valid = self.bank.c2w[rows[:, None], chosen.index.clamp(min=0)], chosen.index >= 0
        newest = self.bank.c2w[rows, (self.bank.length - chunk + chunk // 2).clamp(min=0)]
        scales = {"scale": self.config.scale, "scale_deg": self.config.scale_deg}
        return information_gain(newest, stored, valid, **scales)

    @property
    def slots(self) -> int:
        """S, the slots of a context."""
        return num_slots(self.config, self.layout.chunk_latents) if self.store is None else self.store.slots

    def stage(
        self,
        rows: Tensor,  # (R,) int64, ascending
        track: Track,  # each (R, F, ...), of the coming chunk or of a window of chunks
        *,
        K: Tensor,  # (3, 3) normalised
        text: TextCache | None = None,
        seeds: Sequence[int] = (),
        hidden: Tensor | None = None,  # (R,) bool: rows whose lone start view is no context
    ) -> Staged:
        """Choose the context of these rows' coming chunk or window."""
        bank = self.bank.rows(rows)
        if self.recorded is not None:
            context, chosen = self.recorded.read(rows, track)
        else:
            past = bank if hidden is None else bank.with_length(bank.length.masked_fill(hidden, 0))
            given = None if self.oracle is None else self.oracle(past.length)
            chosen = self.choose(past, Query(track, seeds, self.points, given), self.config, self.layout)
            if self.choose is not select:
                _check_selection(chosen, past, self.slots)
            first = None if self.config.reframe else past.length
            context = gather(self.bank, chosen.index, self.layout, rows=rows, first=first)
        self.selection = (self.selection or Selection.nothing(len(self.bank.length))).with_rows(rows, chosen)
        if self.edit is not None:
            context = self.edit(context)
        if self._cache is None:
            self._cache = self._new_cache(len(self.bank.length), self._num_latents)
        staged = stage(self.dit, context, track=track, K=K, unit=self.unit, text=text)
        if self.views is None:
            return staged
        return replace(staged, rendered=self.views.render(rows, bank, chosen.index, track["c2w"]))

    def show(
        self,
        rows: Tensor,  # (R,) int64
        frames: Tensor,  # (R, F, H, W, 3) uint8: the last frame of each of these rows' newest latents
        *,
        given: bool = False,
    ) -> None:
        """Keep what the newest entries show, if memory is rendered; all that the rows hold may be ``given``."""
        count, chunk = frames.shape[1], self.layout.chunk_latents
        self.show_entries(rows, frames[:, (count - 1) % chunk :: chunk], given=given)

    def show_entries(
        self,
        rows: Tensor,  # (R,) int64
        ends: Tensor,  # (R, E, H, W, 3) uint8: the last frame of each of these rows' newest entries
        *,
        given: bool,
    ) -> None:
        """Do what ``show`` does for whole entries."""
        if self.views is not None and len(rows):
            self.views.show(rows, ends, given=given)

    def encode(self, staged: Staged) -> Prepared:
        """Encode the context of the rows that were staged into the cache that all chunks share."""
        assert self._cache is not None
        return encode(self.dit, staged, self._cache, size=self.latent_shape[1:])

    @property
    def records(self) -> bool:
        """Whether the policy keeps keys and values."""
        return self.recorded is not None

    @property
    def store(self) -> EntryTable | None:
        """Which entries a policy keeps that keeps keys and values."""
        return None if self.recorded is None else self.recorded.store

    @property
    def walls(self) -> Occupancy | None:
        """What was seen to be solid, if that is kept."""
        return None if self.views is None else self.views.walls

    @property
    def address(self) -> tuple[int, ...]:
        """Where kept keys and values lie; another one when they have moved or are more."""
        pool = self._cache.pool if isinstance(self._cache, PagedCache) else self.recorded and self.recorded.pool
        return (pool.keys.data_ptr(), pool.values.data_ptr(), pool.keys.shape[1]) if pool else ()

    def record(
        self,
        rows: Tensor,  # (R,) int64
        recorded: KeysValues | None,  # each (L, R, F, S, N, head_dim), of the whole chunk that was staged
        track: Track,  # each (R, F, ...)
    ) -> None:
        """Keep the keys and values of a clean chunk, if the policy does."""
        if self.recorded is not None:
            assert recorded is not None
            self.recorded.add(rows, recorded, track)

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w): the start view, or a whole clip; F = 0 begins with nothing
        track: Track,  # each (R, F, ...)
        *,
        K: Tensor,
        text: TextCache | None = None,
    ) -> None:
        """Forget these rows and remember this instead."""
        self.bank.clear(rows)
        self.bank.append(rows, latents, track)
        if self.views is not None:
            self.views.begin(rows)
        if self.selection is not None:
            self.selection = self.selection.without(rows)
        if self.recorded is not None:
            self.recorded.begin(rows, latents, track, K=K, text=text)

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows remember as a dictionary of tensors, each with a leading row axis."""
        longest = int(self.bank.length[rows].max())
        tensors = {"latents": self.bank.latents[rows, :longest], "length": self.bank.length[rows]}
        tensors |= {f"track.{name}": part[rows, :longest] for name, part in self.bank.track.items()}
        if self.views is not None:
            tensors |= self.views.clone(rows, longest)
        return tensors if self.recorded is None else tensors | self.recorded.clone(rows)

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Remember in these rows what ``clone`` copied."""
        self.bank.clear(rows)
        if self.selection is not None:
            self.selection = self.selection.without(rows)
        track = Track({name: tensors[f"track.{name}"] for name in self.bank.track})
        self.bank.append(rows, tensors["latents"], track)
        if self.views is not None:
            self.views.restore(rows, tensors)
        self.bank.length[rows] = tensors["length"]
        if self.recorded is not None:
            self.recorded.restore(rows, tensors)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Let rows remember what others do; the pages of keys and values are shared."""
        self.bank.fork(source, rows)
        if self.views is not None:
            self.views.fork(source, rows)
        if self.selection is not None:
            self.selection = self.selection.copied(source, rows)
        if self.recorded is not None:
            self.recorded.fork(source, rows)

    def recache(self, row: int, *, K: Tensor, text: TextCache | None) -> None:
        """Make an env's keys and values anew under another prompt; entries, poses and pictures stay."""
        if self.recorded is not None:
            self.recorded.recache(row, K=K, text=text)

    def _new_cache(self, batch: int, num_latents: int) -> Cache:
        """Make what chunks are denoised with: pages beside those that are kept, if kernels read them, else copies."""
        slots = self.slots + (num_latents if self.dit.config.pose_video else 0)
        if not self.dit.reads_pages:
            return new_cache(self.dit, (batch, slots + num_latents, *self.latent_shape), self.device)
        if self.recorded is not None:
            return PagedCache(self.recorded.pool, batch=batch, num_slots=0, num_latents=num_latents)
        pool = new_pool(self.dit, self.latent_shape, self.device)
        return PagedCache(pool, batch=batch, num_slots=slots, num_latents=num_latents)


def _check_selection(chosen: Selection, bank: MemoryBank, slots: int) -> None:
    """Refuse what somebody's policy chose beyond what there is, by a ValueError."""
    index = chosen.index
    if index.shape != (len(bank.length), slots) or index.dtype != torch.int64:
        raise ValueError(
            f"the memory policy chose {index.dtype} {tuple(index.shape)}, expected int64 {(len(bank.length), slots)}: "
            "num_slots latents for each row"
        )
    if not bool(((index >= -1) & (index < bank.length[:, None])).all()):
        raise ValueError("the memory policy chose latents that are not there; indices lie in -1..length - 1")
