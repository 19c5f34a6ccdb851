"""How the transformer computes what libraries compute differently fast: attention and the feed-forward network."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldenv_kernels.backend import choose_for

from ..base.device import default_dtype
from . import fused
from .attention import Segments, attend, attend_segments, attend_slices, latent_mask_bias, mask_segments

SEGMENTS_FROM = 2**19
"""Scores of a row from which ``onednn`` cuts a mask into segments."""


class Backend(Protocol):
    """Operations of one forward pass, which knows who sees whom."""

    def __init__(
        self,
        mask: Tensor | None,  # (B or 1, Fq, Fk) bool: which latents each latent sees; None is all
        *,
        tokens: int,  # per latent
        dtype: torch.dtype,
    ) -> None: ...

    def attend(
        self,
        q: Tensor,  # (B, N, Sq, D)
        k: Tensor,  # (B, N, Sk, D)
        v: Tensor,  # (B, N, Sk, D)
    ) -> Tensor:
        """Return softmax(q k^T / sqrt(D), where seen) v, (B, N, Sq, D)."""
        ...

    def attend_after(
        self,
        q: Tensor,  # (B M, N, Sq, D)
        past: tuple[Tensor, Tensor],  # keys and values, each (B, N, Sp, D): M neighbouring rows share them
        own: tuple[Tensor, Tensor],  # keys and values, each (B M, N, So, D)
    ) -> Tensor:
        """Return what queries read in the past and in their own keys, which follow it; (B M, N, Sq, D)."""
        ...

    def linear_gelu(
        self,
        linear: nn.Module,
        x: Tensor,  # (..., D)
    ) -> Tensor:
        """Return tanh-GELU(linear(x))."""
        ...


class TorchBackend:
    """PyTorch as it is."""

    def __init__(self, mask: Tensor | None, *, tokens: int, dtype: torch.dtype) -> None:
        self.mask, self.tokens, self.dtype = mask, tokens, dtype

    @cached_property
    def bias(self) -> Tensor | None:
        """The mask as a bias between tokens, (B or 1, 1, Sq, Sk)."""
        return None if self.mask is None else latent_mask_bias(self.mask, tokens=self.tokens, dtype=self.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, self.bias)

    def attend_after(self, q: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> Tensor:
        count = len(q) // len(past[0])
        k, v = (torch.cat([p.repeat_interleave(count, 0), o], 2) for p, o in zip(past, own, strict=True))
        return self.attend(q, k, v)

    def linear_gelu(self, linear: nn.Module, x: Tensor) -> Tensor:
        return F.gelu(linear(x), approximate="tanh")


class OneDNNBackend(TorchBackend):
    """Matrix products in slices that fit the cache; oneDNN's linear layer with the GELU on its way out.

    Where a row has many scores, keys that nobody sees are left out; elsewhere a bias costs less than the pieces.
    """

    def __init__(self, mask: Tensor | None, *, tokens: int, dtype: torch.dtype) -> None:
        super().__init__(None if mask is None or mask.all() else mask, tokens=tokens, dtype=dtype)

    @cached_property
    def segments(self) -> list[Segments]:
        """The mask in pieces."""
        assert self.mask is not None
        return mask_segments(self.mask, tokens=self.tokens, dtype=self.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.mask is None or q.shape[1] * q.shape[2] * k.shape[2] <= SEGMENTS_FROM:
            return attend_slices(q, k, v, self.bias)
        return attend_segments(q, k, v, self.segments)

    def attend_after(self, q: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> Tensor:
        return fused.attend_after(q, past, own, self.bias)

    def linear_gelu(self, linear: nn.Module, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not isinstance(linear, nn.Linear):
            return F.gelu(linear(x), approximate="tanh")
        if torch.is_grad_enabled():
            return fused.linear_gelu(x, linear.weight, linear.bias)
        weight, bias = linear.weight.to(x.dtype), linear.bias.to(x.dtype)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        return out


BACKENDS: dict[str, type[Backend]] = {"torch": TorchBackend, "onednn": OneDNNBackend, "triton": TorchBackend}
"""What is dense, by name; with ``triton`` that is everything but the attention to memory (``paged_cache``)."""


def resolve_backend(name: str, *, device: torch.device, dtype: torch.dtype, head_dim: int | None = None) -> str:
    """Turn ``auto`` into the fastest backend for tensors of a device and dtype; ``triton`` only for a known head size.

    Raises:
        ValueError: if there is no such backend, or not for these.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"unknown backend {name!r}; choose auto, {', '.join(BACKENDS)}")
    if name == "auto" and device.type == "cpu":
        return "onednn" if dtype == default_dtype(device) == torch.bfloat16 else "torch"
    if name == "triton" or (name == "auto" and head_dim is not None):
        return choose_for(name, device, dtype, head_dim=head_dim)
    if name == "onednn" and device.type != "cpu":
        raise ValueError(f"backend 'onednn' computes on a CPU, not on {device}; choose auto or torch")
    if name == "onednn" and dtype == torch.bfloat16 != default_dtype(device):
        raise ValueError("this CPU does not compute in bfloat16, which oneDNN needs; choose float32, or backend torch")
    return "torch" if name == "auto" else name
