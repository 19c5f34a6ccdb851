"""Rotary positions over (time, row, column), from explicit temporal indices.

Channels of a head lie component-major: four quarters a, b, c, d, so that PRoPE's groups of four are one channel of each
quarter and RoPE's pairs are (a, b) and (c, d). Pair 2j of the field's interleaved order is (a_j, b_j), pair 2j + 1 is
(c_j, d_j); a released checkpoint is brought here by a permutation of its weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rope_table(
    positions: Tensor,  # (B, F) temporal index
    *,
    rows: int,
    columns: int,
    head_dim: int,
    theta: float,
    origin: Tensor | None = None,  # (B, F, 2) x and y in -1..1 over the picture's sides
) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines, each (B, F, S, 1, head_dim), for ``apply_rope``.

    Rows and columns are counted from the picture's first ones, or from ``origin``, which need not lie between tokens.

    Of the head_dim / 2 pairs, the first belong to time, then rows, then columns; rows and columns get
    2 * (head_dim // 6) channels each and time the rest (44 | 42 | 42 of 128, as in Wan2.2).
    """
    spatial = 2 * (head_dim // 6)
    time_angles = positions.double()[..., None] * _frequencies(head_dim - 2 * spatial, theta, positions.device)
    space = _frequencies(spatial, theta, positions.device)
    first = torch.zeros(2, device=positions.device) if origin is None else (origin + 1) / 2
    column_angles, row_angles = (
        (torch.arange(count, device=positions.device) - start.double()[..., None] * count)[..., None] * space
        for count, start in zip((columns, rows), first.unbind(-1), strict=True)
    )  # (count, C), or (B, F, count, C)
    shape = (*positions.shape, rows, columns)
    angles = torch.cat(
        [
            time_angles[:, :, None, None].expand(*shape, -1),
            row_angles[..., :, None, :].expand(*shape, -1),
            column_angles[..., None, :, :].expand(*shape, -1),
        ],
        -1,
    ).flatten(2, 3)
    cosine, sine = angles.cos().float(), angles.sin().float()
    c0, c1, s0, s1 = cosine[..., 0::2], cosine[..., 1::2], sine[..., 0::2], sine[..., 1::2]
    cosines, sines = torch.cat([c0, c0, c1, c1], -1), torch.cat([-s0, s0, -s1, s1], -1)
    return cosines[:, :, :, None], sines[:, :, :, None]


def apply_rope(
    x: Tensor,  # (B, F, S, N, head_dim), component-major
    table: tuple[Tensor, Tensor],  # each (B, F, S, 1, head_dim)
) -> Tensor:
    """Rotate every pair of channels by its angle."""
    if not x.requires_grad:
        return _rotate(x, *table, 1)
    rotated: Tensor = _Rotation.apply(x, *table)  # type: ignore[no-untyped-call]
    return rotated


class _Rotation(torch.autograd.Function):
    """A rotation, whose gradient is turned back."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (B, F, S, N, head_dim)
        cosine: Tensor,  # (B, F, S, 1, head_dim)
        sine: Tensor,  # (B, F, S, 1, head_dim)
    ) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _rotate(x, cosine, sine, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _rotate(grad, cosine, sine, -1), None, None


def _rotate(
    x: Tensor,  # (B, F, S, N, head_dim)
    cosine: Tensor,  # (B, F, S, 1, head_dim)
    sine: Tensor,  # (B, F, S, 1, head_dim)
    direction: int,  # 1, or -1 to turn back
) -> Tensor:
    first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    swapped = torch.stack([second, first], -2).flatten(-3)
    return torch.addcmul(x * cosine, swapped, sine, value=direction)


def _frequencies(channels: int, theta: float, device: torch.device) -> Tensor:
    exponent = torch.arange(0, channels, 2, device=device, dtype=torch.float64) / channels
    return theta**-exponent
