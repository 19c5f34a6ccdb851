"""Where the cameras are. Poses have OpenCV axes (x right, y down, z forward); the table's frame has z up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...geometry.kinematics import Vector

HEAD_FOV_DEG, PALM_FOV_DEG = 35.0, 84.0


def look_at(eye: Vector, point: Vector) -> Tensor:
    """Return the pose of a camera that looks from one place at another with the table level, (4, 4) float64."""
    position = torch.tensor(eye, dtype=torch.float64)
    forward = torch.tensor(point, dtype=torch.float64) - position
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    right = right / right.norm()
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    c2w[:3, 3] = position
    return c2w


HEAD = look_at((-0.10, 0.32, 0.41), (0.048, -0.012, 0.02))
"""Of the camera that stands over the shoulder and does not move."""


def _palm() -> Tensor:
    """Return the palm camera in the wrist's frame: below the wrist, looking along the fingers and down."""
    slant = math.radians(48)
    c2w = torch.eye(4, dtype=torch.float64)
    forward, down = (math.cos(slant), 0.0, -math.sin(slant)), (-math.sin(slant), 0.0, -math.cos(slant))
    c2w[:3, :3] = torch.tensor([(0.0, -1.0, 0.0), down, forward], dtype=torch.float64).T
    c2w[:3, 3] = torch.tensor((-0.035, -0.012, -0.03))
    return c2w


PALM = _palm()
