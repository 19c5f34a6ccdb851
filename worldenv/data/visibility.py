"""How much of one view was seen in another, by depth: what retrieval should find and what sampling is based on."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..geometry.camera import project, unproject
from ..geometry.pose import invert_se3


def visible_share(
    depth: Tensor,  # (F, H, W) float32, of each view
    c2w: Tensor,  # (F, 4, 4)
    K: Tensor,  # (3, 3)
    *,
    stride: int = 6,
    tolerance: float = 0.05,
) -> Tensor:
    """Return the share of view i's surface that view j sees, depth-tested; (F, F) float32 in [0, 1].

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
    return seen.view(num_views, num_views, num_points).float().mean(2).T.contiguous()
