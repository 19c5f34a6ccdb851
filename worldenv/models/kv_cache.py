"""Preallocated keys and values of a context, ready to attend to (rotated), for both branches of every layer."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Holds [context | current] per layer; the current chunk overwrites its own tail at every denoising step."""

    def __init__(
        self, *, num_layers: int, batch: int, num_heads: int, num_tokens: int, head_dim: int, dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        shape = (num_layers, 2, batch, num_heads, num_tokens, head_dim)
        self.buffer = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0  # tokens of context
        self._context: dict[int, tuple[Tensor, Tensor]] = {}  # with gradients: nothing is written in place

    def write(
        self,
        layer: int,
        k: Tensor,  # (B, N, S, D)
        v: Tensor,  # (B, N, S, D)
        *,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Store keys and values at ``start`` and return all up to their end, each (B, N, start + S, D)."""
        if k.requires_grad:
            if start == 0:
                self._context[layer] = k, v
                return k, v
            past = self._context[layer]
            return torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        stop = start + k.shape[2]
        keys, values = self.buffer[layer, 0], self.buffer[layer, 1]
        keys[:, :, start:stop] = k
        values[:, :, start:stop] = v
        return keys[:, :, :stop], values[:, :, :stop]
