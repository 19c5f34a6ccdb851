"""Skeletons as pictures: bones in the colours of their fingers or limbs, the nearest on top, on black."""

from __future__ import annotations

import torch
from torch import Tensor

from .camera import Pinhole, project
from .kinematics import Robot
from .pose import invert_se3

COLOURS = torch.tensor(
    [[255, 255, 255], [255, 60, 60], [255, 200, 40], [60, 220, 60], [60, 160, 255], [220, 80, 255], [60, 230, 230]]
)
"""Of the trunk and of each group of keypoints; more groups begin again behind the trunk's."""
THICKNESS = 1.6
"""Pixels of a bone in a picture 64 pixels high."""
NEAR = 0.01


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
    cover = _coverage(image[:, starts], image[:, ends], camera)  # (N, bones, H, W)
    cover[(depth[:, starts] < NEAR) | (depth[:, ends] < NEAR)] = 0
    groups = torch.tensor([robot.keypoints[i].group for i, _ in bones])
    groups = torch.where(groups > 0, (groups - 1) % (len(COLOURS) - 1) + 1, 0)
    colours = COLOURS.to(cover)[groups]
    order = (depth[:, starts] + depth[:, ends]).argsort(1, descending=True)
    rows = torch.arange(len(image))
    picture = cover.new_zeros(len(image), camera.height, camera.width, 3)
    for bone in order.unbind(1):  # from the farthest
        part = cover[rows, bone][..., None]
        picture = picture * (1 - part) + part * colours[bone][:, None, None]
    return picture.round().to(torch.uint8).reshape(*lead, camera.height, camera.width, 3)


def _coverage(
    start: Tensor,  # (N, bones, 2) pixels
    end: Tensor,  # (N, bones, 2)
    camera: Pinhole,
) -> Tensor:
    """Return how much of each pixel a bone covers, (N, bones, H, W), by the pixel centre's distance from its line."""
    x = torch.arange(camera.width).to(start) + 0.5
    y = (torch.arange(camera.height).to(start) + 0.5)[:, None]
    (x0, y0), (dx, dy) = start[..., None, None, :].unbind(-1), (end - start)[..., None, None, :].unbind(-1)
    across, down = x - x0, y - y0
    share = ((across * dx + down * dy) / (dx * dx + dy * dy).clamp(min=1e-9)).clamp(0, 1)
    away = ((across - share * dx).square() + (down - share * dy).square()).sqrt()
    return (THICKNESS * camera.height / 64 / 2 + 0.5 - away).clamp(0, 1)
