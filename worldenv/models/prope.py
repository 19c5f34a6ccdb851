"""PRoPE: relative cameras inside attention (WorldPlay 3.2; every channel of a head is transformed).

``q' = P^T q``, ``k' = P^-1 k``, ``v' = P^-1 v``, ``o = P o'`` on groups of four channels, with ``P = lift(K) w2c``,
so that only ``P_query P_key^-1`` matters and a rigid change of the world frame changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.pose import invert_se3


def camera_projection(
    c2w: Tensor,  # (..., 4, 4), translations in the model's unit
    K: Tensor,  # (..., 3, 3) normalised by the image size; the principal point is ignored
) -> tuple[Tensor, Tensor]:
    """Return P (image <- world) and its closed-form inverse, each (..., 4, 4)."""
    return _project(invert_se3(c2w), c2w, K)


def world_projection(
    w2c: Tensor,  # (..., 4, 4)
    K: Tensor,  # (..., 3, 3)
) -> tuple[Tensor, Tensor]:
    """Do what ``camera_projection`` does from the other end, rounding as WorldPlay's release rounds in bfloat16."""
    return _project(w2c, invert_se3(w2c), K)


def _project(w2c: Tensor, c2w: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    fx, fy, one = K[..., 0, 0], K[..., 1, 1], torch.ones_like(K[..., 0, 0])
    lift = torch.diag_embed(torch.stack([fx, fy, one, one], -1))
    unlift = torch.diag_embed(torch.stack([1 / fx, 1 / fy, one, one], -1))
    return lift.to(c2w.dtype) @ w2c, c2w @ unlift.to(c2w.dtype)


def head_matrices(
    projection: Tensor,  # (B, F, 4, 4)
    unprojection: Tensor,  # (B, F, 4, 4)
    *,
    head_dim: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Expand the cameras to whole heads (component-major) as right factors for row vectors.

    Returns the matrices for queries, for keys and values, and for outputs, each (B F, head_dim, head_dim). One
    dense product of a head is faster than many 4x4 products on every device tried.
    """
    eye = torch.eye(head_dim // 4, device=projection.device, dtype=projection.dtype)

    def expand(matrix: Tensor) -> Tensor:  # (B, F, 4, 4), acting on row vectors from the right
        return torch.einsum("bfij,gk->bfigjk", matrix, eye).reshape(-1, head_dim, head_dim).to(dtype)

    return expand(projection), expand(unprojection.mT), expand(projection.mT)


def apply_heads(
    x: Tensor,  # (B, F, S, N, head_dim)
    matrix: Tensor,  # (B F, head_dim, head_dim)
) -> Tensor:
    """Multiply every head of a latent by that latent's matrix."""
    batch, frames, tokens, heads, channels = x.shape
    rows = x.reshape(batch * frames, tokens * heads, channels)
    return torch.bmm(rows, matrix.to(rows.dtype)).view(batch, frames, tokens, heads, channels)
