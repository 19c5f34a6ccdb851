"""Robots as bodies: joint targets within their ranges, and what the robot's own kinematics say of them.

The robot is known, the objects are imagined: keypoints and the skeleton's pictures follow from joints alone, in batched
torch, wherever the joints were commanded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec
from ..geometry.camera import Pinhole
from ..geometry.kinematics import Robot, keypoints
from ..geometry.skeleton import draw_skeleton


class RobotBody:
    """A body whose commands are joint targets, one set per latent; see ``Body``."""

    modes: tuple[str, ...] = ("joints",)

    def __init__(self, robot: Robot, camera: Pinhole | None = None) -> None:
        self.robot, self.camera = robot, camera
        self.takes: Mapping[str, Signal] = {"joints": Signal(shape=(len(robot.joints),))}

    @classmethod
    def from_mjcf(cls, path: str | Path, *, camera: str | Pinhole | None = None, size: int = 64) -> RobotBody:
        """Read limits, kinematics and keypoints of an arm or a hand from an MJCF file (needs the manip extra).

        Args:
            path: the file.
            camera: what pose videos are seen by: a camera that the file names and that stands still, or any other.
            size: width and height of pictures by a camera of the file.

        Raises:
            ValueError: if there is no such file or camera, no joint, or a joint that is no hinge or slide with a range.
        """
        from .mjcf import read_camera, read_model, read_robot

        model = read_model(Path(path))
        seen = read_camera(model, camera, size) if isinstance(camera, str) else camera
        return cls(read_robot(model), seen)

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the action space of one env: joint targets (J,), or (latents, J) where a chunk has several."""
        low, high = self.robot.limits.float().numpy()
        return per_latent(spaces.Box(low, high, dtype=np.float32), num_latents)

    def names(self, mode: str) -> tuple[str, ...]:
        """Return what errors call the numbers of an action."""
        return tuple(joint.name for joint in self.robot.joints)

    def command(self, action: Tensor, mode: str, present: Signals, spec: WorldSpec) -> Track:
        """Return the joint targets of each latent."""
        return Track(joints=action.reshape(len(action), spec.chunk_latents, -1).float())

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        """Return nothing: joints have no keys."""
        return {}

    def keypoints(
        self,
        joints: Tensor,  # (..., J)
    ) -> Tensor:
        """Return where the keypoints are, (..., P, 3) metres."""
        return keypoints(self.robot, joints)

    def grasp(
        self,
        joints: Tensor,  # (..., J)
    ) -> Tensor:
        """Return the middle of its ends, of finger tips or of a gripper's, (..., 3) metres."""
        inner = {point.parent for point in self.robot.keypoints}
        ends = [i for i in range(len(self.robot.keypoints)) if i not in inner]
        return self.keypoints(joints)[..., ends, :].mean(-2)

    def view(self, spec: WorldSpec) -> Pinhole | None:
        """Return the camera that sees the robot in a world's pictures, if one does: by the world's lens, which where
        the world is also walked through is another camera's.
        """
        if self.camera is None:
            return None
        K = spec.K
        if spec.has_camera:  # pixels are square, as those of spec.K
            K = self.camera.K * (spec.width / self.camera.width)
            K[:, 2] = K.new_tensor([spec.width / 2, spec.height / 2, 1.0])
        return Pinhole(self.camera.c2w, K, spec.width, spec.height)

    def pose_video(
        self,
        joints: Tensor,  # (..., J)
        camera: Pinhole | None = None,
    ) -> Tensor:
        """Draw the skeleton at these joints, (..., H, W, 3) uint8.

        Raises:
            ValueError: if no camera is known.
        """
        seen = camera or self.camera
        if seen is None:
            raise ValueError("this body has no camera; pass camera=, here or where the body is made")
        return draw_skeleton(self.robot, self.keypoints(joints), seen)


def per_latent(box: spaces.Box, num_latents: int) -> spaces.Box:
    """Return a space of one action per latent: the box itself, or (latents, D) where a chunk has several."""
    if num_latents == 1:
        return box
    low, high = (np.repeat(bound[None], num_latents, 0) for bound in (box.low, box.high))
    return type(box)(low, high, dtype=np.float32)
