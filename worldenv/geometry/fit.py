"""The rigid motion between two cameras that fits best what became of points of the first one's picture."""

from __future__ import annotations

import torch
from torch import Tensor

from .pose import compose, invert_se3

NUM_ITERATIONS = 4
"""Gauss-Newton steps; turns of 20 degrees converge to float32 in as many."""
MIN_RATIO = 0.1
"""Least depth in the second camera, relative to the first one's, that a point is held at."""


def project_points(
    rays: Tensor,  # (P, 3) with z = 1, of the first camera
    inverse_depth: Tensor,  # (B, P)
    w2c: Tensor,  # (B, 4, 4), the first camera's frame to the second one's
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return where the second camera sees the points: (x / z, y / z) and its z over the first one's, each (B, P).

    Points behind the second camera, or nearly, are held at a small z; those at infinity have one, too.
    """
    points = rays @ w2c[:, :3, :3].mT + inverse_depth[..., None] * w2c[:, None, :3, 3]
    x, y, z = points.unbind(-1)
    z = z.clamp(min=MIN_RATIO)
    return (x / z, y / z), z


def solve_motion(
    rays: Tensor,  # (P, 3) with z = 1, of the first camera
    image: Tensor,  # (B, P, 2) x / z and y / z in the second camera
    inverse_depth: Tensor,  # (B, P)
    weight: Tensor,  # (B, P, 2)
    *,
    prior: Tensor,  # (6,) weight of no motion: rotation about x, y, z, then translation along them
) -> Tensor:
    """Return the motion that moves points to where they were seen, by Gauss-Newton on the weighted square error.

    Returns:
        (B, 4, 4), the second camera in the first one's frame.
    """
    motion = torch.eye(4, dtype=image.dtype, device=image.device).expand(len(image), 4, 4)
    total = torch.zeros(len(image), 6, dtype=image.dtype, device=image.device)
    for _ in range(NUM_ITERATIONS):
        (u, v), z = project_points(rays, inverse_depth, motion)
        near = inverse_depth / z
        zero, one = torch.zeros_like(u), torch.ones_like(u)
        jacobian = torch.stack(
            [
                torch.stack([-u * v, one + u * u, -v, near, zero, -u * near], -1),
                torch.stack([-one - v * v, u * v, u, zero, near, -v * near], -1),
            ],
            2,
        ).flatten(1, 2)  # (B, 2 P, 6)
        error = (image - torch.stack([u, v], -1)).flatten(1)
        weighted = jacobian * weight.flatten(1)[..., None]
        normal = weighted.mT @ jacobian + torch.diag(prior)
        step = torch.linalg.solve(normal, (weighted.mT @ error[..., None])[..., 0] - prior * total)
        total = total + step
        motion = compose(small_rotation(step[:, :3]), step[:, 3:]) @ motion
    return invert_se3(motion)


def small_rotation(
    vector: Tensor,  # (..., 3) axis times angle in radians
) -> Tensor:
    """Rotate about an axis by 2 atan(angle / 2), Cayley's map: smooth at none and exactly orthonormal; (..., 3, 3)."""
    half = vector / 2
    square = half.square().sum(-1)[..., None, None]
    x, y, z = half.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return ((1 - square) * eye + 2 * half[..., None] * half[..., None, :] + 2 * cross) / (1 + square)
