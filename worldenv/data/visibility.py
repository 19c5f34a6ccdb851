"""What a view shows that others showed before, by depth: what retrieval should find and what sampling is based on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry.camera import project, unproject
from ..geometry.pose import invert_se3


def visibility(
    depth: Tensor,  # (F, H, W) float32, of each view
    c2w: Tensor,  # (F, 4, 4)
    K: Tensor,  # (3, 3)
    *,
    stride: int = 6,
    tolerance: float = 0.05,
) -> Tensor:
    """Tell which points of view i's surface view j sees, depth-tested; (F, F, P) bool, indexed [i, j].

    Every ``stride``-th pixel of view i is lifted to its 3-D point and projected into view j, where it counts if it
    falls in the picture and within ``tolerance`` (relative) of the depth there.
    """
    height, width = depth.shape[1:]
    offset = stride // 2
    points = unproject(depth.float(), c2w.float(), K)[:, offset::stride, offset::stride].flatten(1, 2)
    num_views, num_points = points.shape[:2]
    uv, z = project(points.reshape(1, -1, 3), invert_se3(c2w.float()), K)  # (F, F P, 2), (F, F P)
    grid = 2 * uv / uv.new_tensor([width, height]) - 1
    there = F.grid_sample(depth.float()[:, None], grid[:, None], mode="nearest", align_corners=False)[:, 0, 0]
    inside = (grid.abs() < 1).all(-1) & (z > 1e-3)
    seen = inside & ((there - z).abs() < tolerance * z + 0.02)
    return seen.view(num_views, num_views, num_points).transpose(0, 1)


def memory_need(
    seen: Tensor,  # (F, F, P) bool from ``visibility``
    *,
    chunk_latents: int,
    temporal_latents: int,
) -> Tensor:
    """Return, for each latent, the share of its surface that only memory can know; (F,) float32.

    That is: not seen by any latent of the temporal window before its chunk, but seen by some latent before that.
    """
    num_latents = len(seen)
    need = torch.zeros(num_latents)
    for first in range(1, num_latents - chunk_latents + 1, chunk_latents):
        border = first - temporal_latents
        if border < 1:
            continue
        chunk = seen[first : first + chunk_latents]
        only_old = chunk[:, :border].any(1) & ~chunk[:, border:first].any(1)
        need[first : first + chunk_latents] = only_old.float().mean(1)
    return need
