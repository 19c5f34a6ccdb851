"""Exact depth and segmentation of a maze: a grid walk over its tiles for every pixel's ray."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...geometry.camera import pixel_rays
from .maze import Array, Maze

_WALL = np.float32(1e6)


def cast_depth(
    maze: Maze,
    c2w: Tensor,  # (N, 4, 4)
    K: Tensor,  # (3, 3)
    *,
    width: int,
    height: int,
) -> Tensor:
    """Return the depth along the camera's z axis at each pixel centre, metres, (N, H, W) float32.

    Raises:
        ValueError: if a camera is outside the map.
    """
    depth = cast_rays(maze, *_camera_rays(c2w, K, width=width, height=height))
    return torch.from_numpy(depth.reshape(len(c2w), height, width))


def cast_classes(
    maze: Maze,
    c2w: Tensor,  # (N, 4, 4)
    K: Tensor,  # (3, 3)
    *,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Return depth as ``cast_depth`` does, and what is seen at each pixel centre, (N, H, W) uint8.

    That is 0, or 1 + the class of the goal object.

    Raises:
        ValueError: if a camera is outside the map.
    """
    origins, directions = _camera_rays(c2w, K, width=width, height=height)
    ends = np.empty(len(origins), np.int32)
    depth = cast_rays(maze, origins, directions, ends=ends)
    seen = np.append(maze.classes.ravel(), np.uint8(0))[ends]
    depth, seen = (values.reshape(len(c2w), height, width) for values in (depth, seen))
    return torch.from_numpy(depth), torch.from_numpy(seen)


def _camera_rays(c2w: Tensor, K: Tensor, *, width: int, height: int) -> tuple[Array, Array]:
    """Return origins and directions (R, 3) of all pixels' rays."""
    rays = pixel_rays(K.double(), width=width, height=height).reshape(-1, 3)
    directions = rays @ c2w[:, :3, :3].double().mT
    origins = c2w[:, None, :3, 3].double().expand_as(directions)
    return origins.reshape(-1, 3).numpy(), directions.reshape(-1, 3).numpy()


def cast_rays(
    maze: Maze,
    origins: Array,  # (R, 3)
    directions: Array,  # (R, 3), any length
    *,
    ends: Array | None = None,  # (R,) int32
) -> Array:
    """Return how many times each ray's direction leads to the first surface, (R,) float32.

    ``ends`` is filled with the tile, row * N + column, whose body or floor that is, -1 for ceilings.

    Raises:
        ValueError: if a ray starts outside the map.
    """
    n = len(maze.solid)
    if len(origins) and not ((origins[:, (0, 2)] >= 0) & (origins[:, (0, 2)] < n)).all():
        raise ValueError(f"a ray starts outside the map; x and z must be within 0..{n} metres")
    floor = np.where(maze.solid, _WALL, maze.floor).astype(np.float32).ravel()
    ceiling = np.where(maze.solid, _WALL, maze.ceiling).astype(np.float32).ravel()
    result = np.zeros(len(origins), np.float32)
    x, y, z = origins.T
    # An axis-parallel ray never crosses that axis: a tiny slope stands in for 0.
    dx, dy, dz = (np.where(np.abs(d) < 1e-9, 1e-9, d) for d in directions.T)
    column, row = np.floor(x), np.floor(z)
    tile = (row * n + column).astype(np.int32)
    step_x, step_z = np.where(dx > 0, 1, -1).astype(np.int32), np.where(dz > 0, n, -n).astype(np.int32)
    delta_x, delta_z = (np.abs(1 / d).astype(np.float32) for d in (dx, dz))
    next_x = ((column + (dx > 0) - x) / dx).astype(np.float32)
    next_z = ((row + (dz > 0) - z) / dz).astype(np.float32)
    eye, climb = (-y).astype(np.float32), (-dy).astype(np.float32)
    ray = np.arange(len(origins))
    while len(ray):
        leave = np.minimum(next_x, next_z)
        level = eye + leave * climb
        # Where the ray leaves its tile below the floor or above the ceiling, it has met that plane inside.
        low, high = floor[tile], ceiling[tile]
        plane = np.where(climb < 0, low, high)
        inside = (level < low) | (level > high)
        along_x = next_x < next_z
        before = tile
        tile = tile + np.where(along_x, step_x, step_z)
        next_x, next_z = next_x + along_x * delta_x, next_z + ~along_x * delta_z
        done = inside | (level < floor[tile]) | (level > ceiling[tile])
        result[ray[done]] = np.where(inside, (plane - eye) / climb, leave)[done]
        if ends is not None:
            low = np.where(inside, level < low, level < floor[tile])
            ends[ray[done]] = np.where(low, np.where(inside, before, tile), -1)[done]
        keep = ~done
        ray, tile, eye, climb = ray[keep], tile[keep], eye[keep], climb[keep]
        next_x, next_z, delta_x, delta_z = next_x[keep], next_z[keep], delta_x[keep], delta_z[keep]
        step_x, step_z = step_x[keep], step_z[keep]
    return result
