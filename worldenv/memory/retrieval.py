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

BLOCK = 64
"""Pairs of views counted at once, so that intermediate results stay in a CPU's cache."""


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
    return own_view(points, fov_deg)


def own_view(
    points: Tensor,  # (P, 3)
    fov_deg: tuple[float, float],
) -> Tensor:
    """Return the points that lie in the query's own view."""
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


def polynomials(
    points: Tensor,  # (P, 3)
) -> Tensor:
    """Return what ``count_seen`` needs of points, (6, P): x, y, z, 1, x^2 + z^2, y^2."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, y, z, torch.ones_like(x), x * x + z * z, y * y])


def _slope(angle: Tensor) -> Tensor:
    """Return the tangent, without end beyond a right angle."""
    return torch.where(angle.abs() < math.pi / 2, angle.tan(), angle.sign() * 1e12)


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
    points = own_view(points, fov_deg)
    if not len(points):
        raise ValueError("no point lies in the query's view; draw more points")
    query, history = torch.broadcast_tensors(query_c2w[..., :, None, :, :], history_c2w[..., None, :, :, :])
    shape = query.shape[:-2]
    counts = count_seen(
        query.reshape(-1, 4, 4), history.reshape(-1, 4, 4), polynomials(points), fov_deg=fov_deg, radius=radius
    )
    return counts.view(shape).to(points.dtype) / len(points)


def count_seen(
    query_c2w: Tensor,  # (N, 4, 4)
    history_c2w: Tensor,  # (N, 4, 4)
    points: Tensor,  # (6, P): ``polynomials`` of points in the query's view
    *,
    fov_deg: tuple[float, float],
    radius: float,
) -> Tensor:
    """Count the points of each query's view that its history view sees too, (N,) int64.

    The test of ``in_view``, written as inequalities between polynomials of a point's coordinates: a matrix product and
    a few comparisons instead of two arc tangents per point. Needs fields of view below 180 degrees.
    """
    history = relative(query_c2w, history_c2w).to(points.dtype)
    yaw, pitch = yaw_pitch(history)
    (x, y, z), zero, one = history[:, :3, 3].unbind(-1), torch.zeros_like(yaw), torch.ones_like(yaw)
    half_h, half_v = (math.radians(a) / 2 for a in fov_deg)
    top, bottom = (_slope(pitch + half_v), _slope(pitch - half_v))
    edges = []
    for side in (-half_h, half_h):  # on the inner side of the left and of the right edge, seen from above
        across, along = (yaw + side).cos() * math.copysign(1, -side), (yaw + side).sin() * math.copysign(1, side)
        edges.append(torch.stack([across, zero, along, -(across * x + along * z), zero, zero], -1))
    flat = torch.stack([-2 * x, zero, -2 * z, x * x + z * z, one, zero], -1)  # squared distance, seen from above
    near = torch.stack([2 * x, 2 * y, 2 * z, radius**2 - (x * x + y * y + z * z), -one, -one], -1)
    up = torch.stack([zero, -one, zero, y, zero, zero], -1)
    counts = []
    for part in torch.arange(len(yaw)).split(BLOCK):
        left, right, distance, inside, height = (torch.stack(
            [edges[0][part], edges[1][part], flat[part], near[part], up[part]]) @ points)  # fmt: skip
        inside = torch.minimum(torch.minimum(left, right), inside) > 0
        distance = distance.clamp_(min=0).sqrt_()
        inside &= height < distance * top[part, None]
        inside &= height > distance * bottom[part, None]
        counts.append(inside.sum(-1))
    return torch.cat(counts)
