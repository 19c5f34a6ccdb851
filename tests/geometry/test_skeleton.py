"""Drawn skeletons against plain loops over pixels and bones."""

import math

import torch

from worldenv.geometry.camera import Pinhole, look_at
from worldenv.geometry.kinematics import Keypoint, Link, Robot
from worldenv.geometry.skeleton import COLOURS, THICKNESS, draw_skeleton

PARENTS, GROUPS = (-1, 0, 1, 0, 3, 0), (0, 1, 1, 2, 2, 7)
ROBOT = Robot(
    links=(Link(name="all"),),
    joints=(),
    keypoints=tuple(
        Keypoint(name=str(i), link=0, parent=parent, group=group)
        for i, (parent, group) in enumerate(zip(PARENTS, GROUPS, strict=True))
    ),
)
CAMERA = Pinhole(
    look_at((0.0, -1.0, 0.0), (0.0, 0.0, 0.0)),
    torch.tensor([[20.0, 0.0, 10.5], [0.0, 20.0, 8.5], [0.0, 0.0, 1.0]]).double(),
    width=21,  # no multiple of what is drawn together
    height=17,
)


def by_loops(points: list[list[float]]) -> list[list[list[float]]]:
    """Draw one skeleton; the camera looks along y, its picture's rows go down z."""
    seen = [(10.5 + 20 * x / (1 + y), 8.5 - 20 * z / (1 + y), 1 + y) for x, y, z in points]
    bones = [(seen[parent], seen[i], GROUPS[i]) for i, parent in enumerate(PARENTS) if parent >= 0]
    bones = [bone for bone in bones if min(bone[0][2], bone[1][2]) > 0.01]
    picture = [[[0.0] * 3 for _ in range(21)] for _ in range(17)]
    for (x0, y0, _), (x1, y1, _), group in sorted(bones, key=lambda bone: -(bone[0][2] + bone[1][2])):
        colour = COLOURS[(group - 1) % 6 + 1 if group else 0].tolist()
        for row in range(17):
            for column in range(21):
                x, y, dx, dy = column + 0.5 - x0, row + 0.5 - y0, x1 - x0, y1 - y0
                share = min(max((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0), 1)
                away = math.hypot(x - share * dx, y - share * dy)
                cover = min(max(THICKNESS * 17 / 64 / 2 + 0.5 - away, 0), 1)
                old = picture[row][column]
                picture[row][column] = [o * (1 - cover) + cover * c for o, c in zip(old, colour, strict=True)]
    return picture


def test_every_pixel_is_what_loops_draw() -> None:
    points = torch.rand(5, 6, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5
    points[1] *= 3  # bones that leave the picture, ends behind the camera
    points[2, :, 0] += 9  # none in it
    points[3, 1:] = points[3, :1]  # bones without length
    drawn = draw_skeleton(ROBOT, points, CAMERA)
    assert drawn.shape == (5, 17, 21, 3)
    for picture, row in zip(drawn, points.tolist(), strict=True):
        torch.testing.assert_close(picture.double(), torch.tensor(by_loops(row)).double(), atol=0.51, rtol=0)
    assert drawn[0].any()
    assert drawn[1].any()
    assert not drawn[2].any()
