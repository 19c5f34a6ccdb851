"""The pinhole camera: square pixels, ``K`` in pixels, pixel centres at half integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .pose import invert_se3

NEAR = 0.01
"""Metres before a camera from which on things are seen."""


@dataclass(frozen=True)
class Pinhole:
    """A camera that stands still."""

    c2w: Tensor  # (4, 4)
    K: Tensor  # (3, 3)
    width: int
    height: int


def seen_at(
    points: Tensor,  # (..., P, 3) in the world
    camera: Pinhole,
) -> Tensor:
    """Return where points are in a camera's picture, x and y in -1..1 over its sides, (..., P, 2).

    Points behind it are as far as ones just before it, to the same side.
    """
    w2c = invert_se3(camera.c2w).to(points)
    seen = points @ w2c[:3, :3].mT + w2c[:3, 3]
    seen = torch.cat([seen[..., :2], seen[..., 2:].clamp(min=NEAR)], -1)
    image = seen @ camera.K.to(points).mT
    return 2 * image[..., :2] / image[..., 2:] / image.new_tensor([camera.width, camera.height]) - 1


def look_at(eye: tuple[float, float, float], point: tuple[float, float, float]) -> Tensor:
    """Return the pose of a level camera that looks from one place at another in a frame with z up, (4, 4) float64."""
    position = torch.tensor(eye, dtype=torch.float64)
    forward = torch.tensor(point, dtype=torch.float64) - position
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    right = right / right.norm()
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    c2w[:3, 3] = position
    return c2w


def intrinsics(width: int, height: int, *, fov_deg: float) -> Tensor:
    """Return K (3, 3) of a square-pixel camera with this horizontal field of view and a centred principal point."""
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def normalise_intrinsics(
    K: Tensor,  # (..., 3, 3)
    *,
    width: int,
    height: int,
) -> Tensor:
    """Divide focal lengths and principal point by the image size, as WorldPlay's PRoPE expects; (..., 3, 3)."""
    scale = torch.tensor([1 / width, 1 / height, 1], dtype=K.dtype, device=K.device)
    return K * scale[:, None]


def pixel_rays(
    K: Tensor,  # (3, 3)
    *,
    width: int,
    height: int,
) -> Tensor:
    """Return the ray through each pixel centre in the camera frame with unit depth, z = 1; shape (H, W, 3)."""
    u = (torch.arange(width, dtype=K.dtype, device=K.device) + 0.5 - K[0, 2]) / K[0, 0]
    v = (torch.arange(height, dtype=K.dtype, device=K.device) + 0.5 - K[1, 2]) / K[1, 1]
    y, x = torch.meshgrid(v, u, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], -1)


def project(
    points: Tensor,  # (..., P, 3) in the world
    w2c: Tensor,  # (..., 4, 4)
    K: Tensor,  # (3, 3)
) -> tuple[Tensor, Tensor]:
    """Project world points. Return pixel coordinates (..., P, 2) and depth along z (..., P); depth <= 0 is behind."""
    camera = points @ w2c[..., :3, :3].mT + w2c[..., None, :3, 3]
    depth = camera[..., 2]
    image = camera @ K.mT
    return image[..., :2] / image[..., 2:].where(image[..., 2:] != 0, torch.ones_like(image[..., 2:])), depth


def unproject(
    depth: Tensor,  # (..., H, W)
    c2w: Tensor,  # (..., 4, 4)
    K: Tensor,  # (3, 3)
) -> Tensor:
    """Lift a z-depth image to world points; shape (..., H, W, 3)."""
    height, width = depth.shape[-2:]
    camera = pixel_rays(K, width=width, height=height) * depth[..., None]
    rotation, position = c2w[..., None, :3, :3], c2w[..., None, None, :3, 3]
    return camera @ rotation.mT + position


def warp(
    image: Tensor,  # (H, W, C) float, seen from the source camera
    *,
    depth: Tensor,  # (H, W) of the target view
    source_depth: Tensor,  # (H, W) of the source view
    c2w: Tensor,  # (4, 4) target camera
    source_c2w: Tensor,  # (4, 4)
    K: Tensor,  # (3, 3)
    tolerance: float = 0.02,
) -> tuple[Tensor, Tensor]:
    """Look up each target pixel in the source image through its 3-D point.

    Returns the warped image (H, W, C) and the mask (H, W) of pixels that the source camera sees: inside its image and
    within ``tolerance`` (relative) of its depth.
    """
    height, width = depth.shape
    points = unproject(depth, c2w, K).reshape(-1, 3)
    uv, z = project(points, invert_se3(source_c2w), K)
    grid = (2 * uv / uv.new_tensor([width, height]) - 1).reshape(1, height, width, 2)
    lookup = torch.cat([image, source_depth[..., None]], -1).permute(2, 0, 1)[None].to(grid.dtype)
    sampled = torch.nn.functional.grid_sample(lookup, grid, align_corners=False, padding_mode="border")[0]
    seen = (z > 1e-6) & (uv >= 0.5).all(-1) & (uv <= uv.new_tensor([width, height]) - 0.5).all(-1)
    close = (sampled[-1].flatten() - z).abs() < tolerance * z
    return sampled[:-1].permute(1, 2, 0), (seen & close).reshape(height, width)
