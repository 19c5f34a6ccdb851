"""Attention to memory where it lies: pages of keys and values before RoPE and PRoPE, read by ``worldenv_kernels``.

Inside a page time and camera are constant, so the queries are placed anew for every page and the pages stay as they
are, whatever is retrieved beside them (WorldPlay 3.3; the identity is in ``worldenv_kernels.places``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldenv_kernels import Pages, Places, Reframing, memory_attention, reframe, space_table

from .backend import Backend
from .kv_cache import Cache, PagePool, PageTable
from .place import Place
from .types import Conditioning, DiTConfig, KeysValues


class PagedCache(Cache):
    """[context | chunk] as a block table of a pool; the chunk overwrites its own pages at every denoising step.

    The context lies in the pool already, or is encoded densely into pages of this cache, block-causally as trained.
    """

    kernel = "auto"  # of ``memory_attention``: on a GPU by size, on a CPU the definition

    def __init__(self, pool: PagePool, *, batch: int, num_slots: int, num_latents: int) -> None:
        """Take pages for ``num_slots`` latents of context (0 if they are the pool's) and for the chunk."""
        super().__init__()
        self.pool = pool
        pool.reserve(len(pool.references) + batch * (num_slots + num_latents))  # what memory reserved stays its own
        pages = pool.allocate(batch, num_slots + num_latents).long().to(pool.keys.device)
        self.context, self.chunk = pages.split([num_slots, num_latents], 1)
        self.seen = self.context
        self.past: Conditioning | None = None
        self.full = False

    def look(
        self,
        past: Conditioning,  # of the context
        recorded: KeysValues | PageTable | None,  # pages of this pool, or what was encoded or loaded into its own
        valid: Tensor,  # (B, S) bool
        *,
        full: bool,  # whether it is true everywhere
    ) -> None:
        """Let the coming chunk attend to this."""
        pages = self.context[: len(valid)]  # a batch of some rows takes the first ones
        if isinstance(recorded, PageTable):
            assert recorded.pool is self.pool
            pages = recorded.pages
        self.past, self.seen, self.full = past, pages.where(valid, -1), full
        self.length = pages.shape[1] * self.pool.keys.shape[2]

    def place(
        self, cond: Conditioning, config: DiTConfig, *, grid: tuple[int, int], dtype: torch.dtype
    ) -> Place | Reframing:
        """Place the context, which attends densely, or the chunk's first latents against context and each other."""
        if not self.length:
            return super().place(cond, config, grid=grid, dtype=dtype)
        assert self.past is not None
        queries, slots = (_places(c, cameras=config.camera_branch) for c in (cond, self.past.join(cond)))
        return reframe(
            queries,
            slots,
            torch.cat([self.seen, self._own(len(self.seen), cond.positions.shape[1])], 1).int(),
            head_dim=config.head_dim,
            theta=config.rope_theta,
            full=self.full,
            space=space_table(*grid, head_dim=config.head_dim, theta=config.rope_theta, device=self.seen.device),
        )

    def _own(self, rows: int, num_latents: int) -> Tensor:
        """Return the pages of the first latents of a chunk, (R, F)."""
        return self.chunk[:rows, :num_latents]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, place: Place | Reframing, backend: Backend
    ) -> tuple[Tensor, ...]:
        self.keep(layer, k, v, place)
        if isinstance(place, Place):
            return super().attend(layer, q, k, v, place, backend)
        pages = Pages(keys=self.pool.keys[layer, :, :, None], values=self.pool.values[layer])
        return memory_attention(q[:, :, :, None], pages, place, backend=self.kernel).unbind(3)

    def keep(self, layer: int, k: Tensor, v: Tensor, place: Place | Reframing) -> None:
        pages = self.context[: len(k)] if isinstance(place, Place) else self._own(*k.shape[:2])
        self.pool.keys[layer, pages] = k
        self.pool.values[layer, pages] = v


def _places(cond: Conditioning, *, cameras: bool) -> Places:
    if not cameras:
        return Places(positions=cond.positions)
    return Places(positions=cond.positions, projection=cond.projection, unprojection=cond.unprojection)
