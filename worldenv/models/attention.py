"""Scaled dot-product attention with a mask between latents: PyTorch's fused kernel, or products of matrices.

On CPUs that compute in bfloat16, two matrix products and a softmax take 0.4 of the fused kernel's time as long as the
scores stay in the cache. So they are taken slice by slice, and only for keys that the queries see.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

SCORES = 2**21
"""Scores that products of matrices hold at once: 4 MiB in bfloat16."""


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
    """Return softmax(q k^T / sqrt(D) + bias) v, (B, N, Sq, D), by the fused kernel."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def attend_slices(
    q: Tensor,  # (B, N, Sq, D)
    k: Tensor,  # (B, N, Sk, D)
    v: Tensor,  # (B, N, Sk, D)
    bias: Tensor | None = None,  # (B or 1, 1, Sq or 1, Sk)
) -> Tensor:
    """Do what ``attend`` does by products of matrices, in slices that fit: of rows, of heads, or else of queries."""
    num_rows, heads, num_queries, channels = q.shape
    fit = SCORES // (num_queries * k.shape[2])
    if fit >= num_rows * heads or num_rows * heads * num_queries == 1:
        scores = (q * channels**-0.5) @ k.contiguous().mT  # left to the product, the copy of a part of k would be slow
        return (scores if bias is None else scores + bias).softmax(-1) @ v
    if num_rows * heads == 1:
        axis, count = 2, max(1, SCORES // k.shape[2])
    else:
        axis, count = (0, max(1, fit // heads)) if num_rows > 1 else (1, max(1, fit))
    queries = q.split(count, axis)
    keys, values = ([t] * len(queries) if axis == 2 else t.split(count, axis) for t in (k, v))
    whole = bias is None or bias.shape[axis] == 1
    biases = [bias] * len(queries) if bias is None or whole else bias.split(count, axis)
    return torch.cat([attend_slices(*part) for part in zip(queries, keys, values, biases, strict=True)], axis)


@dataclass(frozen=True)
class Segment:
    """Neighbouring queries of a row that see the same keys."""

    queries: slice
    keys: slice
    bias: Tensor | None  # (1, 1, 1, Sk): -inf at keys within ``keys`` that they do not see


@dataclass(frozen=True)
class Segments:
    """Neighbouring rows with the same mask, and what their queries see."""

    num_rows: int
    parts: tuple[Segment, ...]


def mask_segments(
    mask: Tensor,  # (B or 1, Fq, Fk) bool, True where a query latent sees a key latent, of which there is one
    *,
    tokens: int,
    dtype: torch.dtype,
) -> list[Segments]:
    """Cut a mask between latents where what the queries see changes."""
    groups = groupby(mask, lambda row: row.tolist())
    return [Segments(len(list(rows)), tuple(_cut(seen, tokens, dtype))) for seen, rows in groups]


def _cut(seen: list[list[bool]], tokens: int, dtype: torch.dtype) -> list[Segment]:
    segments, start = [], 0
    for keys, latents in groupby(seen):
        stop = start + len(list(latents))
        first, last = keys.index(True), len(keys) - keys[::-1].index(True)
        seen_within = torch.tensor(keys[first:last])[None, None]
        bias = None if seen_within.all() else latent_mask_bias(seen_within, tokens=tokens, dtype=dtype)[:, :, :1]
        segments.append(Segment(slice(start * tokens, stop * tokens), slice(first * tokens, last * tokens), bias))
        start = stop
    return segments


def attend_segments(
    q: Tensor,  # (B, N, Sq, D)
    k: Tensor,  # (B, N, Sk, D)
    v: Tensor,  # (B, N, Sk, D)
    segments: list[Segments],
) -> Tensor:
    """Return softmax(q k^T / sqrt(D), where seen) v, (B, N, Sq, D), without the keys that nobody sees."""
    counts = [len(q)] if len(segments) == 1 else [group.num_rows for group in segments]  # one mask holds for all rows
    rows = []
    for group, q_, k_, v_ in zip(segments, q.split(counts), k.split(counts), v.split(counts), strict=True):
        parts = [attend_slices(q_[:, :, p.queries], k_[:, :, p.keys], v_[:, :, p.keys], p.bias) for p in group.parts]
        rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, 2))
    return rows[0] if len(rows) == 1 else torch.cat(rows)
