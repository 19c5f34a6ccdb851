"""The two things that are done to a head: turning its pairs (RoPE) and mixing its groups of four (PRoPE)."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_frequencies(head_dim: int, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frequencies of time, rows and columns, each (D / 2) float64, 0 where a pair belongs to another.

    Of the pairs, the first belong to time, then rows, then columns; rows and columns get head_dim // 6 each. Pair 2j is
    (a_j, b_j) and stands at j, pair 2j + 1 is (c_j, d_j) and stands at D / 4 + j.
    """
    spatial = head_dim // 6
    counts = (head_dim // 2 - 2 * spatial, spatial, spatial)
    found, start = [], 0
    for count in counts:
        frequencies = torch.zeros(head_dim // 2, dtype=torch.float64)
        frequencies[start : start + count] = theta ** -(torch.arange(count, dtype=torch.float64) / count)
        found.append(torch.cat([frequencies[0::2], frequencies[1::2]]))
        start += count
    return found[0], found[1], found[2]


def turn(
    x: Tensor,  # (..., D)
    cosine: Tensor,  # (..., D / 2)
    sine: Tensor,  # (..., D / 2)
) -> Tensor:
    """Rotate every pair of channels."""
    a, b, c, d = x.chunk(4, -1)
    (c0, c1), (s0, s1) = cosine.chunk(2, -1), sine.chunk(2, -1)
    return torch.cat([a * c0 - b * s0, b * c0 + a * s0, c * c1 - d * s1, d * c1 + c * s1], -1)


def mix(
    x: Tensor,  # (..., D)
    matrix: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Multiply every group of four, as a row vector, by the matrix from the right."""
    return (x.unflatten(-1, (4, -1)).mT @ matrix.to(x.dtype)).mT.flatten(-2)
