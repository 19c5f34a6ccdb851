"""Scaled dot-product attention with a mask between latents, by the fastest route that the device offers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Largest number of scores for which two matrix products beat the fused kernel on a CPU.
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
    num_scores = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if q.device.type != "cpu" or q.dtype == torch.float32 or num_scores > MATMUL_SCORES:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1) @ v
