"""Which past chunk shows what the next one will see: field-of-view overlap (WorldPlay 3.3).

The overlap of two views is the share of points in the query's view that also lie in the history view, estimated on
points drawn in a ball around the query camera. Views are boxes in yaw and pitch; roll is ignored.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..geometry.pose import relative, wrap_angle, yaw_pitch


def ball_points(num_points: int, *, radius: float, seed: int = 0) -> Tensor:
    """Draw points uniformly in a ball, (P, 3) float64, as offsets from the query camera in its frame."""
    generator = torch.Generator().manual_seed(seed)
    r, phi, u = torch.rand(3, num_points, generator=generator, dtype=torch.float64)
    r, phi, u = radius * r ** (1 / 3), 2 * torch.pi * phi, 2 * u - 1
    flat = (1 - u * u).sqrt()
    return torch.stack([r * flat * phi.cos(), r * u, r * flat * phi.sin()], -1)


@lru_cache(maxsize=8)
def view_points(num_points: int, *, radius: float, seed: int, fov_deg: tuple[float, float]) -> Tensor:
    """Return those of ``ball_points`` that lie in the query's view: all that an overlap counts, made once."""
    points = ball_points(num_points, radius=radius, seed=seed)
    return _in_own_view(points, fov_deg)


def _in_own_view(points: Tensor, fov_deg: tuple[float, float]) -> Tensor:
    level = torch.zeros((), dtype=points.dtype)
    return points[in_view(points, level, level, fov_deg=fov_deg)]


def in_view(
    offsets: Tensor,  # (..., P, 3) from the camera's position
    yaw: Tensor,  # (...)
    pitch: Tensor,  # (...)
    *,
    fov_deg: tuple[float, float],
) -> Tensor:
    """Tell which points lie strictly within half the field of view of the viewing direction; (..., P) bool."""
    half_h, half_v = (math.radians(a) / 2 for a in fov_deg)
    x, y, z = offsets.unbind(-1)
    horizontal = wrap_angle(torch.atan2(x, z) - yaw[..., None]).abs() < half_h
    vertical = wrap_angle(torch.atan2(-y, torch.hypot(x, z)) - pitch[..., None]).abs() < half_v
    return horizontal & vertical


def fov_overlap(
    query_c2w: Tensor,  # (..., Q, 4, 4)
    history_c2w: Tensor,  # (..., M, 4, 4)
    points: Tensor,  # (P, 3) offsets in the query frame
    *,
    fov_deg: tuple[float, float] = (60, 35),
    radius: float = 8.0,
) -> Tensor:
    """Return the share of the query view's points that each history view sees too, (..., Q, M) in [0, 1].

    A history view sees a point that is in its field of view and closer to it than ``radius``. Only the points inside
    the query's view matter, and in the query's frame they are always the same, so the others are dropped first.
    """
    points = _in_own_view(points, fov_deg)
    if not len(points):
        raise ValueError("no point lies in the query's view; draw more points")
    history = relative(query_c2w[..., :, None, :, :], history_c2w[..., None, :, :, :]).to(points.dtype)
    yaw, pitch = yaw_pitch(history)
    offsets = points - history[..., None, :3, 3]
    seen = in_view(offsets, yaw, pitch, fov_deg=fov_deg) & (offsets.norm(dim=-1) < radius)
    return seen.to(points.dtype).mean(-1)
