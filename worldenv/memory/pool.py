"""Which memories are worth keeping: an information gate, farthest points, and likeness of viewpoints.

Definitions where WorldScape's page gives only names (memory-aware cache): a viewpoint is a position and a viewing
direction, and two of them are as alike as a Gaussian of their distance and angle says. Seen as the covariance of a
Gaussian process, that kernel tells how much of a new viewpoint the stored ones do not explain yet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOISE = 0.05
"""Observation noise of the gate: gains lie between 0 and ln(1 + 1 / NOISE) / 2 = 1.52 nats."""
MAX_GAIN = 0.5 * math.log(1 + 1 / NOISE)
"""The gain of a viewpoint that nothing stored resembles, in nats."""


def offsets(
    a: Tensor,  # (..., A, 4, 4)
    b: Tensor,  # (..., E, 4, 4)
) -> tuple[Tensor, Tensor]:
    """Return distances in metres and angles in radians between viewpoints, each (..., A, E)."""
    distance = (a[..., :, None, :3, 3] - b[..., None, :, :3, 3]).norm(dim=-1)
    cosine = a[..., :3, 2] @ b[..., :3, 2].mT
    return distance, cosine.clamp(-1, 1).acos()


def pose_kernel(
    a: Tensor,  # (..., A, 4, 4)
    b: Tensor,  # (..., E, 4, 4)
    *,
    scale: float,  # metres
    scale_deg: float,
) -> Tensor:
    """Return how alike viewpoints are, (..., A, E) in [0, 1]: exp(-d^2 / 2 s^2 - angle^2 / 2 s_r^2)."""
    distance, angle = offsets(a, b)
    return torch.exp(-0.5 * (distance / scale) ** 2 - 0.5 * (angle / math.radians(scale_deg)) ** 2)


def information_gain(
    candidate: Tensor,  # (B, 4, 4)
    stored: Tensor,  # (B, M, 4, 4)
    valid: Tensor,  # (B, M) bool: which of them count
    *,
    scale: float,
    scale_deg: float,
) -> Tensor:
    """Return what a viewpoint adds to the stored ones, (B,) nats: (1/2) ln of its variance given them over the noise.

    The two-part code of minimum description length: keeping an entry costs a constant, leaving it out costs this.
    """
    both = valid[:, :, None] & valid[:, None, :]
    covariance = pose_kernel(stored, stored, scale=scale, scale_deg=scale_deg).where(both, 0)
    covariance = covariance + torch.diag_embed(torch.where(valid, NOISE, 1.0).to(covariance))
    cross = pose_kernel(candidate[:, None], stored, scale=scale, scale_deg=scale_deg)[:, 0].where(valid, 0)
    explained = (cross * torch.linalg.solve(covariance, cross[..., None])[..., 0]).sum(-1)
    return 0.5 * ((1 - explained).clamp(min=0) / NOISE).log1p()


def farthest_points(
    distance: Tensor,  # (B, M, M)
    valid: Tensor,  # (B, M) bool
    start: Tensor,  # (B,) int64: the first point kept
    keep: int,
) -> tuple[Tensor, Tensor]:
    """Keep the points that are farthest from those already kept, one by one.

    Returns:
        Which points are kept, (B, M) bool, and how far the last one was from the others, (B,).
    """
    rows = torch.arange(len(distance))
    kept = torch.zeros_like(valid)
    kept[rows, start] = True
    nearest = distance[rows, start].masked_fill(~valid, -1)
    radius = torch.zeros(len(distance), dtype=distance.dtype)
    for _ in range(keep - 1):
        radius, chosen = nearest.masked_fill(kept, -1).max(1)
        kept[rows, chosen] |= valid[rows, chosen]
        nearest = torch.minimum(nearest, distance[rows, chosen])
    return kept, radius.clamp(min=0)


def similarity(
    query: Tensor,  # (B, F, 4, 4) poses of the coming chunk
    stored: Tensor,  # (B, M, 4, 4)
    *,
    scale: float,
    scale_deg: float,
    direction_weight: float,
    combine: str,
) -> Tensor:
    """Return how well stored viewpoints serve the coming chunk, (B, M): direction and position, mean over its poses.

    ``geo`` multiplies the two (a camera must be near *and* look the same way), ``add`` adds them.
    """
    distance, angle = offsets(query, stored)
    if combine == "add":
        alike = 0.5 * (1 + angle.cos()) * direction_weight + torch.exp(-distance / scale) * (1 - direction_weight)
    else:
        direction = torch.exp(-0.5 * (angle / math.radians(scale_deg)) ** 2)
        position = torch.exp(-0.5 * (distance / scale) ** 2)
        alike = direction**direction_weight * position ** (1 - direction_weight)
    return alike.mean(1)
