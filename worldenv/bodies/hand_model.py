"""The hand: 26 joints, 21 keypoints, capsules and a box, in numbers that kinematics and simulator read.

The wrist's frame has x towards the fingers, y towards the thumb and z out of the back of the hand; the table's frame
has z up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry.camera import look_at
from ..geometry.kinematics import Joint, Keypoint, Link, Robot, Vector


class Capsule(NamedTuple):
    """A rounded rod from a link's origin along a direction."""

    link: str
    start: Vector
    end: Vector
    radius: float


@dataclass(frozen=True, kw_only=True)
class Finger:
    """Three bones; the first has two joints, the others one."""

    name: str
    base: Vector
    """Its first joint in the wrist's frame."""
    lengths: Vector
    """Metres of its bones, from the base."""
    radii: Vector
    """How thick they are."""
    axes: tuple[Vector, Vector, Vector, Vector]
    """Of its joints, in the frames of the bones, which lie along x."""
    ranges: tuple[tuple[float, float], ...]
    """Of its joints, radians."""
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Its first bone's rotation in the wrist's frame."""


BONES = ("base", "middle", "tip")
_CURL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
_OPPOSE = ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (0.0, -1.0, 0.0), (0.0, -1.0, 0.0))


def _long(name: str, y: float, lengths: Vector) -> Finger:
    return Finger(
        name=name,
        base=(0.092, y, 0.0),
        lengths=lengths,
        radii=(0.0095, 0.0088, 0.0082),
        axes=_CURL,
        ranges=((-0.35, 0.35), (-0.3, 1.6), (0.0, 1.7), (0.0, 1.4)),
    )


FINGERS = (
    Finger(
        name="thumb",
        base=(0.022, 0.018, -0.004),
        quat=(math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0),  # along -z, out of the palm
        lengths=(0.044, 0.033, 0.025),
        radii=(0.011, 0.0098, 0.009),
        axes=_OPPOSE,
        ranges=((-0.3, 1.4), (-0.5, 0.9), (-0.2, 1.0), (-0.2, 1.2)),
    ),
    _long("index", 0.030, (0.044, 0.026, 0.021)),
    _long("middle", 0.010, (0.048, 0.029, 0.022)),
    _long("ring", -0.010, (0.044, 0.027, 0.021)),
    _long("little", -0.030, (0.036, 0.021, 0.019)),
)
PALM_CENTRE, PALM_HALF = (0.048, 0.0, 0.0), (0.046, 0.040, 0.011)
FOREARM = Capsule("wrist", (-0.085, 0.0, 0.012), (-0.012, 0.0, 0.0), 0.026)
WRIST: tuple[tuple[str, Vector, bool, float, float], ...] = (
    ("wrist_x", (1.0, 0.0, 0.0), True, -0.35, 0.35),
    ("wrist_y", (0.0, 1.0, 0.0), True, -0.35, 0.35),
    ("wrist_z", (0.0, 0.0, 1.0), True, 0.0, 0.4),
    ("wrist_yaw", (0.0, 0.0, 1.0), False, -1.6, 1.6),
    ("wrist_pitch", (0.0, 1.0, 0.0), False, -1.2, 1.2),
    ("wrist_roll", (1.0, 0.0, 0.0), False, -1.6, 1.6),
)
"""Name, axis, whether it slides, range: where the wrist is in the table's frame, and how it is turned."""


def _robot() -> Robot:
    links, points = [Link(name="wrist")], [Keypoint(name="wrist", link=0)]
    joints = [Joint(name=n, link=0, axis=axis, slides=slides, low=a, high=b) for n, axis, slides, a, b in WRIST]
    for group, finger in enumerate(FINGERS, start=1):
        for i, bone in enumerate(BONES):
            at = finger.base if i == 0 else (finger.lengths[i - 1], 0.0, 0.0)
            turn = finger.quat if i == 0 else (1.0, 0.0, 0.0, 0.0)
            parent = 0 if i == 0 else len(links) - 1
            links.append(Link(name=f"{finger.name}_{bone}", parent=parent, position=at, quat=turn))
            link = len(links) - 1
            for k in (0, 1) if i == 0 else (i + 1,):
                name = f"{finger.name}_{('spread', 'base', 'middle', 'tip')[k]}"
                low, high = finger.ranges[k]
                joints.append(Joint(name=name, link=link, axis=finger.axes[k], low=low, high=high))
            points.append(
                Keypoint(name=links[-1].name, link=link, parent=0 if i == 0 else len(points) - 1, group=group)
            )
        end = (finger.lengths[-1], 0.0, 0.0)
        points.append(
            Keypoint(name=f"{finger.name}_end", link=len(links) - 1, offset=end, parent=len(points) - 1, group=group)
        )
    return Robot(tuple(links), tuple(joints), tuple(points))


HEAD_FOV_DEG, PALM_FOV_DEG = 35.0, 84.0
HEAD = look_at((-0.10, 0.32, 0.41), (0.048, -0.012, 0.02))
"""Pose of the camera that stands over the shoulder and does not move, in the table's frame; OpenCV axes."""


def _palm() -> Tensor:
    """Return the palm camera in the wrist's frame: below the wrist, looking along the fingers and down."""
    slant = math.radians(48)
    c2w = torch.eye(4, dtype=torch.float64)
    forward, down = (math.cos(slant), 0.0, -math.sin(slant)), (-math.sin(slant), 0.0, -math.cos(slant))
    c2w[:3, :3] = torch.tensor([(0.0, -1.0, 0.0), down, forward], dtype=torch.float64).T
    c2w[:3, 3] = torch.tensor((-0.035, -0.012, -0.03))
    return c2w


PALM = _palm()
HAND = _robot()
"""Links wrist and three for each finger from the thumb on; joints and keypoints in the same order."""
NUM_JOINTS, NUM_WRIST = len(HAND.joints), len(WRIST)


def capsules() -> list[Capsule]:
    """Return the bones of the fingers."""
    return [
        Capsule(f"{finger.name}_{bone}", (0.0, 0.0, 0.0), (length, 0.0, 0.0), radius)
        for finger in FINGERS
        for bone, length, radius in zip(BONES, finger.lengths, finger.radii, strict=True)
    ]


def _fingers(thumb: tuple[float, ...], spread: float, *curl: float) -> Tensor:
    """Return the 20 joints of a hand whose long fingers curl alike and spread from the middle."""
    rows = [torch.tensor([spread * side, *curl]) for side in (1.0, 0.3, -0.3, -1.0)]
    return torch.cat([torch.tensor(thumb), *rows]).double()


OPEN = _fingers((0.0, -0.15, 0.0, 0.0), 0.05, 0.95, 0.35, 0.2)
"""Fingers of a hand about to grasp from above, (20,)."""
CLOSED = _fingers((0.0, 0.55, 0.35, 0.3), -0.05, 1.55, 0.55, 0.4)
"""Fingers of a hand that holds something small; bones stop at what is held."""


def grasp(
    amount: Tensor,  # (...) -1 is open, 1 closed
) -> Tensor:
    """Return the fingers of a grasp synergy, (..., 20)."""
    part = (amount[..., None] + 1) / 2
    return OPEN.to(amount) * (1 - part) + CLOSED.to(amount) * part
