"""Keys and values: of one context, placed and ready to attend to, and of everything remembered, in pages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldenv_kernels import Reframing

from ..base.device import untouched_zeros
from .backend import Backend
from .place import Place
from .types import Conditioning, DiTConfig, KeysValues


class Cache:
    """Attention of latents to each other and to the context kept before them; this one keeps nothing."""

    def __init__(self) -> None:
        self.length = 0  # tokens of context
        self.record: list[tuple[Tensor, Tensor]] | None = None
        """Where blocks leave their keys and values before placing them, each (B, F, S, N, D); None leaves nothing."""

    def place(
        self, cond: Conditioning, config: DiTConfig, *, grid: tuple[int, int], dtype: torch.dtype
    ) -> Place | Reframing:
        """Return where latents are, for ``attend`` and ``keep``."""
        return Place.of(cond, config, grid=grid, dtype=dtype)

    def attend(
        self,
        layer: int,
        q: Tensor,  # (B, F, S, N, D), not placed yet
        k: Tensor,  # (B, F, S, N, D)
        v: Tensor,  # (B, F, S, N, D)
        place: Place | Reframing,
        backend: Backend,
    ) -> tuple[Tensor, ...]:
        """Take keys and values and return what the queries read in each branch, (B, F, S, N, D)."""
        assert isinstance(place, Place)
        keys, values = self._placed(layer, k, v, place)
        return place.bring_back(backend.attend(place.queries(q), keys, values))

    def keep(
        self,
        layer: int,
        k: Tensor,  # (B, F, S, N, D)
        v: Tensor,  # (B, F, S, N, D)
        place: Place | Reframing,
    ) -> None:
        """Take keys and values that nobody asks yet."""
        assert isinstance(place, Place)
        self._placed(layer, k, v, place)

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, R N, S, D)
        v: Tensor,  # (B, R N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Take placed keys and values at ``start`` and return all up to their end, each (B, R N, start + S, D)."""
        return k, v

    def _placed(self, layer: int, k: Tensor, v: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        return self.write(layer, *place.keys(k, v), start=self.length)


class KVCache(Cache):
    """Preallocated; the current chunk overwrites its own tail at every denoising step."""

    def __init__(
        self,
        *,
        num_layers: int,
        batch: int,
        num_heads: int,
        num_tokens: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        shape = (num_layers, 2, batch, num_heads, num_tokens, head_dim)
        self.buffer = torch.zeros(shape, dtype=dtype, device=device)

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, N, S, D)
        v: Tensor,  # (B, N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Store keys and values at ``start`` and return all up to their end, each (B, N, start + S, D)."""
        stop = start + k.shape[2]
        keys, values = self.buffer[layer, :, : len(k)]  # a batch of some rows takes the first ones
        keys[:, :, start:stop] = k
        values[:, :, start:stop] = v
        return (keys[:, :, :stop], values[:, :, :stop]) if start else (k, v)


class GradientCache(Cache):
    """Keeps the context's keys and values as they are and writes nothing in place, so that gradients flow.

    Several neighbouring rows, noisy copies of one chunk, may attend to each row of context.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self,
        layer: int,
        q: Tensor,  # (B M, F, S, N, D), not placed yet
        k: Tensor,  # (B M, F, S, N, D)
        v: Tensor,  # (B M, F, S, N, D)
        place: Place | Reframing,
        backend: Backend,
    ) -> tuple[Tensor, ...]:
        """Read in the context, if there is one, and behind it."""
        if not self.length:
            return super().attend(layer, q, k, v, place, backend)
        assert isinstance(place, Place)
        return place.bring_back(backend.attend_after(place.queries(q), self.context[layer], place.keys(k, v)))

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, N, S, D)
        v: Tensor,  # (B, N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Remember the context's."""
        if start == 0:
            self.context[layer] = k, v
        return k, v


class PagePool:
    """Keys and values of latents, one page each, for all envs; pages are counted, so that forks share them.

    A page holds every layer's keys and values before RoPE and PRoPE. The pool grows by doubling.
    """

    def __init__(
        self,
        num_layers: int,
        page_shape: tuple[int, int, int],
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make an empty pool; ``page_shape`` is (tokens, heads, head_dim)."""
        self.keys, self.values = (torch.zeros(num_layers, 0, *page_shape, dtype=dtype, device=device) for _ in range(2))
        self.references = torch.zeros(0, dtype=torch.int32)
        self._free: list[int] = []
        self._grow(1)

    @property
    def page_bytes(self) -> int:
        """Bytes of one page."""
        layers, _, *page = self.keys.shape
        return 2 * layers * math.prod(page) * self.keys.element_size()

    @property
    def num_used(self) -> int:
        """Pages that somebody holds."""
        return len(self.references) - len(self._free)

    def reserve(self, num_pages: int) -> None:
        """Make room for this many pages in all."""
        if num_pages > len(self.references):
            self._grow(num_pages - len(self.references))

    def store(self, keys: Tensor, values: Tensor) -> Tensor:
        """Write keys and values (L, ..., S, N, D) to new pages, each held once; return their numbers (...) int32."""
        pages = self.allocate(*keys.shape[1:-3])
        where = pages.flatten().long().to(self.keys.device)
        self.keys[:, where] = keys.flatten(1, -4).to(self.keys)
        self.values[:, where] = values.flatten(1, -4).to(self.values)
        return pages

    def allocate(self, *shape: int) -> Tensor:
        """Return the numbers of free pages, now held once, (*shape) int32."""
        count = math.prod(shape)
        while len(self._free) < count:
            self._grow(max(64, count, len(self.references)))
        pages = torch.tensor([self._free.pop() for _ in range(count)], dtype=torch.int32)
        self.references[pages.long()] = 1
        return pages.view(shape)

    def gather(
        self,
        table: Tensor,  # (B, S) int32, -1 for empty
    ) -> KeysValues:
        """Return the pages of a block table, each (L, B, S, tokens, N, D); empty slots hold some page or other."""
        where = table.clamp(min=0).long().flatten().to(self.keys.device)
        keys, values = (t.index_select(1, where).unflatten(1, table.shape) for t in (self.keys, self.values))
        return keys, values

    def retain(self, pages: Tensor) -> None:
        """Hold pages (any shape, -1 for none) once more."""
        held = pages[pages >= 0].long()
        self.references.index_add_(0, held, torch.ones_like(held, dtype=torch.int32))

    def release(self, pages: Tensor) -> None:
        """Hold pages (any shape, -1 for none) once less; those that nobody holds are free."""
        held = pages[pages >= 0].long()
        self.references.index_add_(0, held, -torch.ones_like(held, dtype=torch.int32))
        assert not len(held) or int(self.references[held].min()) >= 0
        self._free += sorted(set(held[self.references[held] == 0].tolist()), reverse=True)

    def _grow(self, new: int) -> None:
        old = len(self.references)
        self.keys, self.values = (_widened(t, old + new) for t in (self.keys, self.values))
        self.references = torch.cat([self.references, torch.zeros(new, dtype=torch.int32)])
        self._free = [*range(old + new - 1, old - 1, -1), *self._free]


@dataclass(frozen=True)
class PageTable:
    """Pages of a pool as a context: what ``gather`` would copy."""

    pool: PagePool
    pages: Tensor  # (B, S) int32, -1 for empty

    def gather(self) -> KeysValues:
        """Return keys and values, each (L, B, S, tokens, N, D)."""
        return self.pool.gather(self.pages)


def _widened(pages: Tensor, count: int) -> Tensor:
    """Return the same pages with room for ``count``."""
    wider = untouched_zeros((len(pages), count, *pages.shape[2:]), dtype=pages.dtype, device=pages.device)
    wider[:, : pages.shape[1]] = pages
    return wider
