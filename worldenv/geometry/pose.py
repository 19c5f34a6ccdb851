"""Rigid motions as 4x4 matrices.

Conventions of the whole project: ``c2w`` maps camera to world, ``w2c`` world to camera; OpenCV axes (x right, y down,
z forward) for the camera and, at yaw 0, for the world as well (so y points at the floor); metres and radians.
Positive yaw turns right, positive pitch looks up.
"""

from __future__ import annotations

import torch
from torch import Tensor


def invert_se3(
    transform: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Invert a rigid transform by transposition, ``[R^T, -R^T t]``; shape (..., 4, 4)."""
    rotation, translation = transform[..., :3, :3], transform[..., :3, 3:]
    inverse = torch.zeros_like(transform)
    inverse[..., :3, :3] = rotation.mT
    inverse[..., :3, 3:] = -rotation.mT @ translation
    inverse[..., 3, 3] = 1
    return inverse


def is_rigid(
    c2w: Tensor,  # (..., 4, 4)
) -> bool:
    """Tell whether all of these are rigid motions: finite, rotations without reflection, the last row (0, 0, 0, 1)."""
    turn, last = c2w[..., :3, :3].double(), c2w[..., 3, :].double()
    square = ((turn @ turn.mT - torch.eye(3, dtype=torch.float64)).abs() < 1e-3).all()
    row = ((last - last.new_tensor([0, 0, 0, 1])).abs() < 1e-3).all()
    return bool(square & row & c2w.isfinite().all() & (torch.linalg.det(turn) > 0).all())


def relative(
    c2w_from: Tensor,  # (..., 4, 4)
    c2w_to: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Return the motion from one camera to another, expressed in the first camera's frame; shape (..., 4, 4)."""
    return invert_se3(c2w_from) @ c2w_to


def chain(
    c2w_start: Tensor,  # (..., 4, 4)
    motions: Tensor,  # (..., F, 4, 4), each in the frame of the camera before it, as ``relative`` gives them
) -> Tensor:
    """Follow motions from a first camera; shape (..., 1 + F, 4, 4)."""
    poses = [c2w_start]
    for motion in motions.unbind(-3):
        poses.append(poses[-1] @ motion)
    return torch.stack(poses, -3)


def rotation_yaw(
    angle: Tensor,  # (...)
) -> Tensor:
    """Rotate about y by ``angle`` radians, positive to the right; shape (..., 3, 3)."""
    c, s, o, i = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, o, s, o, i, o, -s, o, c], -1).unflatten(-1, (3, 3))


def rotation_pitch(
    angle: Tensor,  # (...)
) -> Tensor:
    """Rotate about x by ``angle`` radians, positive looking up; shape (..., 3, 3)."""
    c, s, o, i = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([i, o, o, o, c, -s, o, s, c], -1).unflatten(-1, (3, 3))


def compose(
    rotation: Tensor,  # (..., 3, 3)
    position: Tensor,  # (..., 3)
) -> Tensor:
    """Build the 4x4 transform with this rotation and translation; shape (..., 4, 4)."""
    shape = torch.broadcast_shapes(rotation.shape[:-2], position.shape[:-1])
    transform = rotation.new_zeros(*shape, 4, 4)
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = position
    transform[..., 3, 3] = 1
    return transform


def look(
    position: Tensor,  # (..., 3)
    yaw: Tensor,  # (...)
    pitch: Tensor | None = None,  # (...)
) -> Tensor:
    """Build the c2w of an upright camera (no roll) from position, yaw and pitch; shape (..., 4, 4)."""
    rotation = rotation_yaw(yaw)
    if pitch is not None:
        rotation = rotation @ rotation_pitch(pitch)
    return compose(rotation, position)


def yaw_pitch(
    c2w: Tensor,  # (..., 4, 4)
) -> tuple[Tensor, Tensor]:
    """Read yaw and pitch (radians, each (...)) off the viewing direction, the third column; roll is ignored."""
    x, y, z = c2w[..., 0, 2], c2w[..., 1, 2], c2w[..., 2, 2]
    return torch.atan2(x, z), torch.atan2(-y, torch.hypot(x, z))


def wrap_angle(
    angle: Tensor,  # (...)
) -> Tensor:
    """Wrap radians into [-pi, pi)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def rotation_angle(
    rotation: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Return the angle of a rotation matrix in radians, shape (...); accurate near 0, where arccos is not."""
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    skew = rotation - rotation.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1) / 2
    return torch.atan2(sine, cosine)


def orthonormal(
    rotation: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Return the nearest rotation matrix in the sense of least squares, (..., 3, 3)."""
    u, _, vt = torch.linalg.svd(rotation)
    sign = torch.det(u @ vt)
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    return (u * flip[..., None, :]) @ vt


def interpolate(
    c2w_from: Tensor,  # (..., 4, 4)
    c2w_to: Tensor,  # (..., 4, 4)
    num_steps: int,
) -> Tensor:
    """Spread an upright motion evenly over ``num_steps`` frames, the last of which is ``c2w_to``.

    Position moves on the chord, yaw and pitch linearly the short way round; shape (..., num_steps, 4, 4).
    """
    fraction = torch.arange(1, num_steps + 1, dtype=c2w_from.dtype, device=c2w_from.device) / num_steps
    (yaw_a, pitch_a), (yaw_b, pitch_b) = yaw_pitch(c2w_from), yaw_pitch(c2w_to)
    yaw = yaw_a[..., None] + fraction * wrap_angle(yaw_b - yaw_a)[..., None]
    pitch = pitch_a[..., None] + fraction * (pitch_b - pitch_a)[..., None]
    a, b = c2w_from[..., None, :3, 3], c2w_to[..., None, :3, 3]
    frames = look(a + fraction[:, None] * (b - a), yaw, pitch)
    frames[..., -1, :, :] = c2w_to
    return frames
