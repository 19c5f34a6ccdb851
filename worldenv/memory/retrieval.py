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


LEVEL = 1e-7
"""Radians of pitch, relative to the query, within which a view counts as level: rounding, nothing more."""


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
    counts = torch.empty(len(yaw), dtype=torch.long)
    tilted = pitch.abs() > LEVEL
    for subset, test in ((~tilted, _level), (tilted, _tilted)):
        for rows in subset.nonzero()[:, 0].split(BLOCK):
            counts[rows] = test(history[rows, :3, 3], yaw[rows], pitch[rows], points, fov_deg, radius).sum(-1)
    return counts


def _level(
    where: Tensor, yaw: Tensor, pitch: Tensor, points: Tensor, fov_deg: tuple[float, float], radius: float
) -> Tensor:
    """Test points against views that look level: four polynomials must be positive; (N, P) bool."""
    x, y, z = where.unbind(-1)
    zero, slope = torch.zeros_like(x), min(math.tan(math.radians(fov_deg[1]) / 2), 1e6) ** 2
    slopes = torch.full_like(x, slope)
    low = [-2 * slope * x, 2 * y, -2 * slope * z, slope * (x * x + z * z) - y * y, slopes, zero - 1]
    left, right, near = _borders(where, yaw, fov_deg, radius)
    values = torch.stack([left, right, near, torch.stack(low, -1)]) @ points
    return torch.minimum(torch.minimum(values[0], values[1]), torch.minimum(values[2], values[3])) > 0


def _tilted(
    where: Tensor, yaw: Tensor, pitch: Tensor, points: Tensor, fov_deg: tuple[float, float], radius: float
) -> Tensor:
    """Test points against any views: elevation lies on a cone, which takes a square root; (N, P) bool."""
    x, y, z = where.unbind(-1)
    zero, half = torch.zeros_like(x), math.radians(fov_deg[1]) / 2
    flat = torch.stack([-2 * x, zero, -2 * z, x * x + z * z, zero + 1, zero], -1)  # squared distance seen from above
    up = torch.stack([zero, zero - 1, zero, y, zero, zero], -1)
    left, right, near, flat, height = torch.stack([*_borders(where, yaw, fov_deg, radius), flat, up]) @ points
    inside = torch.minimum(torch.minimum(left, right), near) > 0
    distance = flat.clamp_(min=0).sqrt_()
    inside &= height < distance * _slope(pitch + half)[:, None]
    inside &= height > distance * _slope(pitch - half)[:, None]
    return inside


def _borders(where: Tensor, yaw: Tensor, fov_deg: tuple[float, float], radius: float) -> list[Tensor]:
    """Return polynomials (N, 6) that are positive right of the left edge, left of the right edge and within reach."""
    (x, y, z), zero = where.unbind(-1), torch.zeros_like(yaw)
    half, borders = math.radians(fov_deg[0]) / 2, []
    for side in (-half, half):
        across, along = (yaw + side).cos() * math.copysign(1, -side), (yaw + side).sin() * math.copysign(1, side)
        borders.append(torch.stack([across, zero, along, -(across * x + along * z), zero, zero], -1))
    rest = radius**2 - (x * x + y * y + z * z)
    return [*borders, torch.stack([2 * x, 2 * y, 2 * z, rest, zero - 1, zero - 1], -1)]
