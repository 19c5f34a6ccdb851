"""Robots as trees of links, and where their links and keypoints are, in batched torch.

Frames and joints have MuJoCo's meaning: a link's frame lies in its parent's by a position and a rotation, and its
joints move it in their order, each about an axis through an anchor of the frame as the joints before it have left it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A rigid part."""

    name: str
    """What errors call it."""
    parent: int = -1
    """Index of the link that it hangs on, which stands before it; -1 is the world."""
    position: Vector = (0.0, 0.0, 0.0)
    """Its origin in the parent's frame, metres."""
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Its rotation in the parent's frame, wxyz."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One degree of freedom."""

    name: str
    """What errors call it."""
    link: int
    """Index of the link that it moves."""
    axis: Vector
    """Unit vector in the link's frame."""
    anchor: Vector = (0.0, 0.0, 0.0)
    """A point on the axis of a hinge, in the link's frame."""
    slides: bool = False
    """Whether it moves along the axis (metres) instead of turning about it (radians)."""
    low: float
    """Least value."""
    high: float
    """Largest value."""
    rest: float = 0.0
    """Value at which the link lies as described."""


@dataclass(frozen=True, kw_only=True)
class Keypoint:
    """A point of a link that skeletons are drawn of."""

    name: str
    """What tables call it."""
    link: int
    """Index of the link that carries it."""
    offset: Vector = (0.0, 0.0, 0.0)
    """Where on the link, in its frame."""
    parent: int = -1
    """Index of the keypoint at the other end of its bone, which stands before it; -1 has none."""
    group: int = 0
    """Which finger or limb it belongs to: 0 is the trunk. Skeletons are coloured by it."""


@dataclass(frozen=True)
class Robot:
    """A tree of links with joints and keypoints."""

    links: tuple[Link, ...]
    joints: tuple[Joint, ...]
    keypoints: tuple[Keypoint, ...]

    def __post_init__(self) -> None:
        if any(link.parent >= i for i, link in enumerate(self.links)):
            raise ValueError("links: each one's parent must stand before it")
        if any(point.parent >= i for i, point in enumerate(self.keypoints)):
            raise ValueError("keypoints: each one's parent must stand before it")

    @cached_property
    def limits(self) -> Tensor:
        """Least and largest value of each joint, (2, J) float64."""
        return torch.tensor([[j.low for j in self.joints], [j.high for j in self.joints]], dtype=torch.float64)

    @cached_property
    def frames(self) -> Tensor:
        """Each link's frame in its parent's, (L, 4, 4) float64."""
        return torch.stack([rigid(link.position, link.quat) for link in self.links])

    @cached_property
    def generators(self) -> Tensor:
        """What each joint's motion is the exponential of, (J, 4, 4) float64."""
        return torch.stack([_generator(joint) for joint in self.joints])

    def check(self, joints: Tensor, *, what: str, slack: float = 1e-5) -> None:
        """Refuse joint values (B, ..., J) of another length, not finite, or outside their ranges.

        Raises:
            ValueError: naming the first joint that does not fit.
        """
        if joints.shape[-1:] != (len(self.joints),):
            raise ValueError(
                f"{what} have shape {tuple(joints.shape)}; the last axis must hold {len(self.joints)} joints"
            )
        low, high = self.limits
        wrong = ~joints.isfinite() | (joints < low - slack) | (joints > high + slack)
        if wrong.any():
            place = wrong.nonzero()[0].tolist()
            joint, value = self.joints[place[-1]], float(joints[tuple(place)])
            reach = f"it goes from {joint.low:g} to {joint.high:g}"
            raise ValueError(f"{what}: joint {joint.name!r} is {value:g} in row {place[0]}; {reach}")


def forward_kinematics(
    robot: Robot,
    joints: Tensor,  # (..., J)
) -> Tensor:
    """Return each link's pose in the world, (..., L, 4, 4), in the type of ``joints``."""
    rest = joints.new_tensor([joint.rest for joint in robot.joints])
    moved = _motions(robot, joints - rest)
    poses: list[Tensor] = []
    for i, link in enumerate(robot.links):
        pose = robot.frames[i].to(joints)
        pose = pose.expand(*joints.shape[:-1], 4, 4) if link.parent < 0 else poses[link.parent] @ pose
        for k, joint in enumerate(robot.joints):
            if joint.link == i:
                pose = pose @ moved[..., k, :, :]
        poses.append(pose)
    return torch.stack(poses, -3)


def keypoints(
    robot: Robot,
    joints: Tensor,  # (..., J)
) -> Tensor:
    """Return where the keypoints are in the world, (..., P, 3) metres."""
    poses = forward_kinematics(robot, joints)[..., [point.link for point in robot.keypoints], :, :]
    offsets = joints.new_tensor([point.offset for point in robot.keypoints])
    return (poses[..., :3, :3] @ offsets[..., None])[..., 0] + poses[..., :3, 3]


def rigid(position: Vector, quat: tuple[float, float, float, float]) -> Tensor:
    """Return the frame at a position with a rotation wxyz, (4, 4) float64."""
    w, x, y, z = torch.tensor(quat, dtype=torch.float64) / torch.tensor(quat, dtype=torch.float64).norm()
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
        ]
    )
    frame[:3, 3] = torch.tensor(position, dtype=torch.float64)
    return frame


def _generator(joint: Joint) -> Tensor:
    x, y, z = joint.axis
    twist = torch.zeros(4, 4, dtype=torch.float64)
    if joint.slides:
        twist[:3, 3] = torch.tensor(joint.axis)
        return twist
    twist[:3, :3] = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    twist[:3, 3] = -twist[:3, :3] @ torch.tensor(joint.anchor, dtype=torch.float64)
    return twist


def _motions(robot: Robot, values: Tensor) -> Tensor:
    """Return what each joint does, (..., J, 4, 4): the exponential of its generator, in Rodrigues' closed form.

    For a hinge about an axis through the anchor the formula holds for the whole 4 x 4 matrix; a slide's generator has
    no square, and its motion is linear.
    """
    first = robot.generators.to(values)
    hinges = torch.tensor([not joint.slides for joint in robot.joints], device=values.device)
    linear = torch.where(hinges, values.sin(), values)[..., None, None]
    square = torch.where(hinges, 1 - values.cos(), torch.zeros_like(values))[..., None, None]
    return torch.eye(4).to(values) + linear * first + square * (first @ first)
