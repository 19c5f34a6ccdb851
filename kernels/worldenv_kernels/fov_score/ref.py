"""Definition: the share of points in one view that another view sees too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVEL = 1e-7
"""Radians of pitch within which a view counts as level."""
STEEP = 1e12
"""Slope of a border of the view at or beyond the vertical."""


def fov_score_ref(
    query_c2w: Tensor,  # (B, Q, 4, 4)
    history_c2w: Tensor,  # (B, M, 4, 4)
    points: Tensor,  # (P, 3)
    *,
    fov_deg: tuple[float, float],
    radius: float,
) -> Tensor:
    """Count the points that each history view sees, (B, Q, M) int64."""
    views = view_parameters(query_c2w, history_c2w, fov_deg=fov_deg, radius=radius).to(points.dtype)[..., None]
    x, y, z, sine_l, cosine_l, sine_r, cosine_r, low, high, reach = views.unbind(3)  # (B, Q, M, 1) each
    x, y, z = points[:, 0] - x, points[:, 1] - y, points[:, 2] - z
    flat = x * x + z * z
    distance = flat.sqrt()
    seen = (cosine_l * x - sine_l * z > 0) & (sine_r * z - cosine_r * x > 0)
    seen &= (-y > distance * low) & (-y < distance * high) & (flat + y * y < reach)
    return seen.sum(-1)


def view_parameters(
    query_c2w: Tensor,  # (B, Q, 4, 4)
    history_c2w: Tensor,  # (B, M, 4, 4)
    *,
    fov_deg: tuple[float, float],
    radius: float,
) -> Tensor:
    """Return (B, Q, M, 10): position, sine and cosine of the left and right border, slopes of the lower and upper,
    squared reach.

    Everything is in the query's frame. A view is a box in yaw and pitch; roll is ignored.
    """
    turned = query_c2w[..., :3, :3].mT[:, :, None]
    history = history_c2w[:, None]
    where = (turned @ (history[..., :3, 3:] - query_c2w[:, :, None, :3, 3:]))[..., 0]
    forward = (turned @ history[..., :3, 2:3])[..., 0]
    yaw = torch.atan2(forward[..., 0], forward[..., 2])
    pitch = torch.atan2(-forward[..., 1], torch.hypot(forward[..., 0], forward[..., 2]))
    pitch = torch.where(pitch.abs() > LEVEL, pitch, 0.0)
    half_h, half_v = (math.radians(angle) / 2 for angle in fov_deg)
    left, right = yaw - half_h, yaw + half_h
    edges = [left.sin(), left.cos(), right.sin(), right.cos(), _slope(pitch - half_v), _slope(pitch + half_v)]
    return torch.cat([where, torch.stack([*edges, torch.full_like(yaw, radius * radius)], -1)], -1)


def _slope(angle: Tensor) -> Tensor:
    return torch.where(angle.abs() < math.pi / 2, angle.tan(), angle.sign() * STEEP)
