"""Point clouds of pictures with depth: lifted into the world, checked against one another, thinned.

Axes are those of the cameras: x right, y down, z forward in the first camera's level frame, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .camera import pixel_rays, project, unproject
from .pose import invert_se3
from .splat import NEAR

GRAZING = 0.12
"""Cosine between a surface's normal and a ray below which the pixel is the smear between a near and a far surface."""
FOOTPRINT = 0.5
"""A point's radius in distances to its neighbour pixel: neighbours overlap."""
STRETCH = 4.0
"""By how much a point is longer, at most, along a surface that is seen at an angle."""


@dataclass(frozen=True)
class PointCloud:
    """Points of surfaces, each as the small disc that a pixel saw of it."""

    xyz: Tensor  # (P, 3) float32 metres
    colour: Tensor  # (P, 3) float32, 0 to 1
    normal: Tensor  # (P, 3) float32 unit vectors, towards the camera that saw it
    across: Tensor  # (P, 3) float32 unit vectors in the disc, at right angles to the ray
    radius: Tensor  # (P, 2) float32 metres: along ``across``, and at right angles to it
    error: Tensor  # (P,) float32 metres by which it may be off along the ray

    def __len__(self) -> int:
        return len(self.xyz)

    def select(
        self,
        index: Tensor,  # (Q,) int64, or (P,) bool
    ) -> PointCloud:
        """Return some of the points."""
        return PointCloud(*(getattr(self, field.name)[index] for field in fields(self)))


def lift(
    frames: Tensor,  # (S, H, W, 3) uint8
    depth: Tensor,  # (S, H, W) metres along z
    error: Tensor,  # (S, H, W) its standard error as a share of it
    c2w: Tensor,  # (S, 4, 4)
    K: Tensor,  # (3, 3) pixels
    *,
    reach: float,
) -> PointCloud:
    """Make a point of every pixel, but of those further than ``reach`` metres and of smears at the edges of things."""
    height, width = depth.shape[1:]
    c2w, K, depth = c2w.double(), K.double(), depth.double()
    xyz = unproject(depth, c2w, K)  # (S, H, W, 3)
    ray = F.normalize(pixel_rays(K, width=width, height=height) @ c2w[:, None, :3, :3].mT, dim=-1)
    normal = F.normalize(torch.linalg.cross(_step(xyz, depth, 1), _step(xyz, depth, 2)), dim=-1)
    cosine = (normal * ray).sum(-1, keepdim=True)
    normal, cosine = torch.where(cosine > 0, -normal, normal), cosine.abs()
    across = F.normalize(torch.linalg.cross(normal, ray), dim=-1)
    level = torch.cat([across[..., 1:], -across[..., :1]], -1)  # any direction, where a surface is seen head-on
    across = torch.where(across.norm(dim=-1, keepdim=True) > 0.5, across, F.normalize(level, dim=-1))
    small = FOOTPRINT * depth[..., None] / K[0, 0]
    radius = torch.cat([small, small / cosine.clamp(min=1 / STRETCH)], -1)
    kept = ((depth > NEAR) & (depth < reach) & (cosine[..., 0] > GRAZING)).flatten()
    parts = (xyz, frames.double() / 255, normal, across, radius, (error.double() * depth)[..., None])
    xyz, colour, normal, across, radius, off = (part.float().flatten(0, 2)[kept] for part in parts)
    return PointCloud(xyz, colour, normal, across, radius, off[:, 0])


def _step(
    xyz: Tensor,  # (S, H, W, 3)
    depth: Tensor,  # (S, H, W)
    axis: int,
) -> Tensor:
    """Return the way to the next pixel's point, or from the one before it, whichever is more alike in depth."""
    ways, jumps = xyz.diff(dim=axis), depth.log().diff(dim=axis).abs()
    last = jumps.shape[axis] - 1
    after = torch.cat([ways, ways.narrow(axis, last, 1)], axis)
    before = torch.cat([ways.narrow(axis, 0, 1), ways], axis)
    nearer = torch.cat([jumps, jumps.narrow(axis, last, 1)], axis) < torch.cat([jumps.narrow(axis, 0, 1), jumps], axis)
    return torch.where(nearer[..., None], after, before)


def agreed(
    cloud: PointCloud,
    depth: Tensor,  # (S, H, W) metres along z
    c2w: Tensor,  # (S, 4, 4)
    K: Tensor,  # (3, 3) pixels
    *,
    tolerance: float,
) -> Tensor:
    """Tell which points are where at least as many views see a surface as look through them, (P,) bool.

    A view agrees within ``tolerance``, a share of the distance; what it sees in front of a point says nothing of it.
    """
    height, width = depth.shape[1:]
    votes = torch.zeros(len(cloud), dtype=torch.long)
    for view, w2c in zip(depth.float(), invert_se3(c2w.double()).float(), strict=True):
        uv, z = project(cloud.xyz, w2c, K.float())
        column, row = uv.floor().nan_to_num(-1).clamp(-1, max(width, height)).long().unbind(-1)
        inside = ((z > NEAR) & (column >= 0) & (column < width) & (row >= 0) & (row < height)).nonzero()[:, 0]
        ratio = view[row[inside], column[inside]] / z[inside]
        agree, through = (ratio.log().abs() < tolerance).long(), (ratio.log() > 2 * tolerance).long()
        votes.index_add_(0, inside, agree - through)
    return votes >= 0


def thin(cloud: PointCloud, voxel: float) -> PointCloud:
    """Keep of each cube the surest point: that with the least error in metres, so a near one.

    Cubes are of ``voxel`` metres, and larger ones for points that are large themselves: what was seen from afar gives
    way where it was seen from nearby, too. Discs become large enough to touch their neighbours.
    """
    level = (cloud.radius[:, 0] / (2 * FOOTPRINT * voxel)).clamp(min=1).log2().floor().long()
    for scale in range(int(level.max()) + 1 if len(cloud) else 0):
        cube = (cloud.xyz / (voxel * 2**scale)).floor().long()
        _, number = cube.unique(dim=0, return_inverse=True)
        order = cloud.error.argsort(stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        best = torch.full((int(number.max()) + 1,), len(order)).scatter_reduce_(0, number, rank, "amin")
        kept = (best[number] == rank) | (level < scale)
        cloud, level = cloud.select(kept), level[kept]
    return replace(cloud, radius=cloud.radius.clamp(min=FOOTPRINT * voxel))
