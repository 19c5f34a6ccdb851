"""A block of WorldDiT: dual attention, attention to a prompt, a feed-forward network.

Its structure (AdaLN table plus shared modulation, joint QK norm, gates) is Wan2.2's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldenv_kernels import Reframing

from .attention import attend
from .backend import Backend
from .kv_cache import Cache
from .layers import FeedForward, RMSNorm, modulate
from .place import Place
from .types import DiTConfig


class DualAttention(nn.Module):
    """RoPE attention plus a zero-initialised PRoPE attention over the same q, k, v (equations 2 and 3).

    In worlds of robots a third one, or second, places tokens by how far from the grasp they are.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, self.num_heads, self.head_dim = config.width, config.num_heads, config.head_dim
        self.to_qkv = nn.Linear(width, 3 * width)
        self.norm_q = RMSNorm(width)
        self.norm_k = RMSNorm(width)
        self.to_out = nn.Linear(width, width)
        self.to_out_prope = nn.Linear(width, width) if config.camera_branch else None
        self.to_out_grasp = nn.Linear(width, width) if config.grasp_branch else None
        for added in (self.to_out_prope, self.to_out_grasp):
            if added is not None:
                nn.init.zeros_(added.weight)
                nn.init.zeros_(added.bias)

    def project(
        self,
        x: Tensor,  # (B, F, S, D)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v, each (B, F, S, N, head_dim), not placed yet: no branch, position or camera entered."""
        q, k, v = self.to_qkv(x).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in (self.norm_q(q), self.norm_k(k), v))
        return q, k, v

    def merge(
        self,
        branches: tuple[Tensor, ...],  # each (B, F, S, N, head_dim)
    ) -> Tensor:
        """Project what the queries read in each branch; (B, F, S, D)."""
        result: Tensor = self.to_out(branches[0].flatten(-2))
        if self.to_out_prope is not None:
            result = result + self.to_out_prope(branches[1].flatten(-2))
        if self.to_out_grasp is not None:
            result = result + self.to_out_grasp(branches[-1].flatten(-2))
        return result


class TextAttention(nn.Module):
    """Attention of picture tokens to a prompt; padding counts, as in Wan2.2."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, self.num_heads = config.width, config.num_heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(width, 2 * width)
        self.norm_q = RMSNorm(width)
        self.norm_k = RMSNorm(width)
        self.to_out = nn.Linear(width, width)

    def keys_values(
        self,
        text: Tensor,  # (B, L, D)
    ) -> tuple[Tensor, Tensor]:
        """Return the prompt's keys and values, each (B, N, L, head_dim)."""
        k, v = self.to_kv(text).chunk(2, -1)
        k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (self.norm_k(k), v))
        return k, v

    def forward(
        self,
        x: Tensor,  # (B, F, S, D)
        k: Tensor,  # (B or 1, N, L, head_dim)
        v: Tensor,  # (B or 1, N, L, head_dim)
    ) -> Tensor:
        q = self.norm_q(self.to_q(self.norm(x.to(self.norm.weight.dtype)).to(x.dtype))).flatten(1, 2)
        q = q.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = (t.expand(len(q), -1, -1, -1) for t in (k, v))
        out: Tensor = self.to_out(attend(q, k, v).transpose(1, 2).flatten(2).view_as(x))
        return out


class Block(nn.Module):
    """Modulated dual attention, attention to a prompt if there is text, a modulated feed-forward network."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, config.width) * config.width**-0.5)
        self.attn = DualAttention(config)
        self.text = TextAttention(config) if config.text_dim else None
        self.ffn = FeedForward(config.width, config.ffn_dim)
        self.exact = config.numerics == "reference"
        self.recompute = False  # whether the backward pass computes what the feed-forward network holds anew

    def forward(
        self,
        x: Tensor,  # (B, F, S, D)
        modulation: Tensor,  # (B, F, 6, D)
        place: Place | Reframing,
        backend: Backend,
        cache: Cache,
        layer: int,
        text: tuple[Tensor, Tensor] | None,  # the prompt's keys and values
        *,
        stop: bool,  # whether keys and values are all that is wanted
    ) -> Tensor:
        table = (self.scale_shift_table + modulation).unbind(2)
        shift1, scale1, gate1, shift2, scale2, gate2 = table
        q, k, v = self.attn.project(modulate(x, shift1, scale1, exact=self.exact))
        if cache.record is not None:
            cache.record.append((k, v))
        if stop:
            cache.keep(layer, k, v, place)
            return x
        attended = self.attn.merge(cache.attend(layer, q, k, v, place, backend))
        x = self._add(x, attended, gate1)
        if self.text is not None:
            assert text is not None
            x = x + self.text(x, *text)
        modulated = modulate(x, shift2, scale2, exact=self.exact)
        if self.recompute and torch.is_grad_enabled():
            return self._add(x, checkpoint(self.ffn, modulated, backend, use_reentrant=False), gate2)
        return self._add(x, self.ffn(modulated, backend), gate2)

    def _add(self, x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
        gate = gate[:, :, None]
        if self.exact:
            return (x.float() + update * gate.float()).to(x.dtype)
        return torch.addcmul(x, update, gate.to(x.dtype))
