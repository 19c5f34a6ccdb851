"""One layer's keys and values of latents, a page each, before time and cameras entered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SCALE_BLOCK = 16
"""Tokens of a page that share a scale of int8 keys."""


@dataclass(frozen=True, kw_only=True)
class Pages:
    """What branches read. With one form of keys both read it; with two, the RoPE branch reads keys that rows and
    columns have turned, the camera branch plain ones.

    int8 keys are what is left of a page after its mean, in steps of a scale; the mean is exact. A page is quantised
    once, whatever is later read beside it.
    """

    keys: Tensor  # (P, S, 1 or 2, N, D)
    values: Tensor  # (P, S, N, D)
    mean: Tensor | None = None  # (P, 1 or 2, N, D) float32; for int8 keys
    scale: Tensor | None = None  # (P, blocks, 1 or 2, N) float32; for int8 keys

    def __post_init__(self) -> None:
        if self.keys.ndim != 5 or self.keys.shape[2] not in (1, 2):
            raise ValueError(f"keys are {tuple(self.keys.shape)}, expected (P, S, 1 or 2, N, D)")
        expected = (*self.keys.shape[:2], *self.keys.shape[3:])
        if self.values.shape != expected:
            raise ValueError(f"values are {tuple(self.values.shape)}, expected {expected}")
        if not (self.keys.is_contiguous() and self.values.is_contiguous()):
            raise ValueError("keys or values are not contiguous; pass one layer of a pool, or call contiguous()")
        if self.quantised != (self.mean is not None and self.scale is not None):
            raise ValueError(f"keys are {self.keys.dtype}; pass mean and scale with int8 keys and only with them")

    @property
    def quantised(self) -> bool:
        """Whether keys are int8."""
        return self.keys.dtype == torch.int8

    @property
    def forms(self) -> int:
        """1 or 2: the forms in which keys lie in a page."""
        return self.keys.shape[2]


def make_pages(
    num_pages: int,
    tokens: int,
    num_heads: int,
    head_dim: int,
    *,
    forms: int = 1,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
) -> Pages:
    """Return empty pages."""
    return Pages(
        keys=torch.zeros(num_pages, tokens, forms, num_heads, head_dim, dtype=dtype, device=device),
        values=torch.zeros(num_pages, tokens, num_heads, head_dim, dtype=dtype, device=device),
    )


def quantise(
    keys: Tensor,  # (P, S, forms, N, D)
) -> tuple[Tensor, Tensor, Tensor]:
    """Return int8 keys, their mean (P, forms, N, D) and their scale (P, blocks, forms, N)."""
    mean = keys.float().mean(1)
    rest = keys.float() - mean[:, None]
    blocks = rest.abs().amax(-1).split(SCALE_BLOCK, 1)
    scale = torch.stack([block.amax(1) for block in blocks], 1).clamp(min=1e-12) / 127
    steps = rest / _per_token(scale, keys.shape[1])[..., None]
    return (steps + 0.5).floor().clamp(-127, 127).to(torch.int8), mean, scale


def read_keys(
    pages: Pages,
    index: Tensor,  # (...) int64
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Return the keys of some pages, (..., S, forms, N, D)."""
    keys = pages.keys[index].to(dtype)
    if pages.mean is None or pages.scale is None:
        return keys
    scale = _per_token(pages.scale[index].flatten(0, index.ndim - 1), keys.shape[index.ndim]).to(dtype)
    return keys * scale.view(*keys.shape[:-1], 1) + pages.mean[index].to(dtype).unsqueeze(index.ndim)


def _per_token(
    scale: Tensor,  # (P, blocks, forms, N)
    tokens: int,
) -> Tensor:
    """Repeat the scale of a block for its tokens, (P, S, forms, N)."""
    return scale.repeat_interleave(SCALE_BLOCK, 1)[:, :tokens]
