"""Scaled dot-product attention with a mask between latents, by the fastest route that the device offers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Scores held at once on a CPU, where in bfloat16 two matrix products take half of the fused kernel's time.
MATMUL_SCORES = 2**25


def latent_mask_bias(
    mask: Tensor,  # (B or 1, Fq, Fk) bool, True where a query latent sees a key latent
    *,
    tokens: int,
    dtype: torch.dtype,
) -> Tensor:
    """Expand a mask between latents to an additive bias between tokens; (B or 1, 1, Fq S, Fk S)."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
    return bias.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)[:, None]


def attend(
    q: Tensor,  # (B, N, Sq, D)
    k: Tensor,  # (B, N, Sk, D)
    v: Tensor,  # (B, N, Sk, D)
    bias: Tensor | None = None,  # (B or 1, 1, Sq, Sk)
) -> Tensor:
    """Return softmax(q k^T / sqrt(D) + bias) v, (B, N, Sq, D)."""
    row_scores = q.shape[1] * q.shape[2] * k.shape[2]
    if q.device.type != "cpu" or q.dtype == torch.float32 or row_scores > MATMUL_SCORES:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    rows = max(1, MATMUL_SCORES // row_scores)
    if rows < len(q):
        biases = [bias] * len(q) if bias is None or len(bias) == 1 else bias.split(rows)
        parts = zip(q.split(rows), k.split(rows), v.split(rows), biases, strict=False)
        return torch.cat([_attend(*part) for part in parts])
    return _attend(q, k, v, bias)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1) @ v
