"""Keys and values of a context, ready to attend to (rotated), for both branches of every layer."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Cache(Protocol):
    """What the transformer needs of a cache: the context first, then the chunk that attends to it."""

    length: int
    """Tokens of context."""

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, N, S, D)
        v: Tensor,  # (B, N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Take keys and values at ``start`` and return all up to their end, each (B, N, start + S, D)."""
        ...


class KVCache:
    """Preallocated; the current chunk overwrites its own tail at every denoising step."""

    def __init__(
        self, *, num_layers: int, batch: int, num_heads: int, num_tokens: int, head_dim: int, dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        shape = (num_layers, 2, batch, num_heads, num_tokens, head_dim)
        self.buffer = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

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
        keys, values = self.buffer[layer, 0], self.buffer[layer, 1]
        keys[:, :, start:stop] = k
        values[:, :, start:stop] = v
        return keys[:, :, :stop], values[:, :, :stop]


class GradientCache:
    """Keeps the context's keys and values as they are and writes nothing in place, so that gradients flow."""

    def __init__(self) -> None:
        self.length = 0
        self.context: dict[int, tuple[Tensor, Tensor]] = {}

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, N, S, D)
        v: Tensor,  # (B, N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Remember the context's (start = 0), or return it with these behind it."""
        if start == 0:
            self.context[layer] = k, v
            return k, v
        past = self.context[layer]
        return torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)

    def repeat(self, count: int) -> None:
        """Repeat every row, so that ``count`` chunks attend to each context."""
        self.context = {
            layer: (k.repeat_interleave(count, 0), v.repeat_interleave(count, 0))
            for layer, (k, v) in self.context.items()
        }
