"""Skeletons as pictures: bones in the colours of their fingers or limbs, the nearest on top, on black."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .camera import NEAR, Pinhole, project
from .kinematics import Robot
from .pose import invert_se3

COLOURS = torch.tensor(
    [[255, 255, 255], [255, 60, 60], [255, 200, 40], [60, 220, 60], [60, 160, 255], [220, 80, 255], [60, 230, 230]]
)
"""Of the trunk and of each group of keypoints; more groups begin again behind the trunk's."""
THICKNESS = 1.6
"""Pixels of a bone in a picture 64 pixels high."""
BLOCK = 8
"""Pixels a side of what is drawn or left alone together."""


def draw_skeleton(
    robot: Robot,
    points: Tensor,  # (..., P, 3) keypoints in the world
    camera: Pinhole,
) -> Tensor:
    """Draw bones with soft edges, (..., H, W, 3) uint8. What lies behind the camera is not drawn."""
    lead = points.shape[:-2]
    w2c, K = invert_se3(camera.c2w).to(points), camera.K.to(points)
    image, depth = project(points.reshape(-1, *points.shape[-2:]), w2c, K)
    bones = [(i, point.parent) for i, point in enumerate(robot.keypoints) if point.parent >= 0]
    if not bones:
        raise ValueError("the robot has one keypoint, and so no bones; add a site where its limb ends")
    ends, starts = (torch.tensor(column) for column in zip(*bones, strict=True))
    groups = torch.tensor([robot.keypoints[i].group for i, _ in bones])
    groups = torch.where(groups > 0, (groups - 1) % (len(COLOURS) - 1) + 1, 0)
    order = (depth[:, starts] + depth[:, ends]).argsort(1, descending=True)  # from the farthest
    starts, ends, rows = starts[order], ends[order], torch.arange(len(image))[:, None]
    ahead = (depth[rows, starts] >= NEAR) & (depth[rows, ends] >= NEAR)
    colours = COLOURS.to(image)[groups[order]]
    picture = _draw(image[rows, starts], image[rows, ends], ahead, colours, (camera.height, camera.width))
    return picture.round().to(torch.uint8).reshape(*lead, camera.height, camera.width, 3)


def _draw(
    start: Tensor,  # (N, bones, 2) pixels
    end: Tensor,  # (N, bones, 2)
    ahead: Tensor,  # (N, bones) bool: which to draw
    colours: Tensor,  # (N, bones, 3)
    size: tuple[int, int],
) -> Tensor:
    """Draw bones over each other, (N, H, W, 3). A pixel is asked only of blocks that a bone comes near."""
    rows, columns = (math.ceil(side / BLOCK) for side in size)
    reach = THICKNESS * size[0] / 64 / 2 + 0.5
    y, x = (torch.arange(count).to(start) for count in (BLOCK, BLOCK))
    inside = torch.stack([x.expand(BLOCK, -1), y[:, None].expand(-1, BLOCK)], -1).flatten(0, 1) + 0.5
    y, x = (torch.arange(count).to(start) * BLOCK for count in (rows, columns))
    corners = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1).flatten(0, 1)
    near = _away(start[:, :, None], end[:, :, None], corners + BLOCK / 2) < reach + BLOCK * 0.5**0.5
    bone, row, block = (near & ahead[:, :, None]).transpose(0, 1).nonzero().unbind(1)  # bone after bone
    pixels = corners[block][:, None] + inside
    cover = (reach - _away(start[row, bone][:, None], end[row, bone][:, None], pixels)).clamp(0, 1)[..., None]
    colour, counts = colours[row, bone][:, None], bone.bincount(minlength=start.shape[1]).tolist()
    picture = start.new_zeros(len(start), rows * columns, BLOCK**2, 3)
    for where, what, share, paint in zip(*(t.split(counts) for t in (row, block, cover, colour)), strict=True):
        picture[where, what] = picture[where, what] * (1 - share) + share * paint
    picture = picture.unflatten(2, (BLOCK, BLOCK)).unflatten(1, (rows, columns)).transpose(2, 3)
    return picture.flatten(3, 4).flatten(1, 2)[:, : size[0], : size[1]]


def _away(start: Tensor, end: Tensor, point: Tensor) -> Tensor:
    """Return the distance of points from lines between two others, (...) of (..., 2)."""
    (x0, y0), (dx, dy) = start.unbind(-1), (end - start).unbind(-1)
    across, down = point[..., 0] - x0, point[..., 1] - y0
    share = ((across * dx + down * dy) / (dx * dx + dy * dy).clamp(min=1e-9)).clamp(0, 1)
    return ((across - share * dx).square() + (down - share * dy).square()).sqrt()
