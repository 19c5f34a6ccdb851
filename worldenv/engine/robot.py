"""What is known of a robot without looking: where its joints were told to be, how fast, and where that puts it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..bodies.registry import robot_of
from ..bodies.robot import RobotBody
from ..dynamics.signals import Signal
from ..dynamics.spec import WorldSpec


@dataclass(frozen=True)
class RobotSignals:
    """Signals of a robot from commanded joints, by forward kinematics without contacts."""

    body: RobotBody
    seconds: float
    """Of a latent."""

    @classmethod
    def of(cls, spec: WorldSpec) -> RobotSignals | None:
        """Return those of a world with a known robot, None of others."""
        body = robot_of(spec)
        return None if body is None else cls(body, spec.frames_per_latent / spec.fps)

    @property
    def gives(self) -> dict[str, Signal]:
        """``proprio``, where the joints are and how fast, and ``keypoints``, as the hand's simulator names them."""
        robot = self.body.robot
        return {
            "proprio": Signal(shape=(2 * len(robot.joints),), low=-1000.0, high=1000.0),
            "keypoints": Signal(shape=(len(robot.keypoints), 3)),
        }

    def at(
        self,
        before: Tensor,  # (..., J) a latent earlier
        joints: Tensor,  # (..., J)
    ) -> dict[str, Tensor]:
        """Return the signals at the end of latents."""
        speed = ((joints - before) / self.seconds).clamp(-1000, 1000)
        return {"proprio": torch.cat([joints, speed], -1), "keypoints": self.body.keypoints(joints)}

    def along(
        self,
        before: Tensor,  # (B, J) before the first latent
        joints: Tensor,  # (B, F, J)
    ) -> dict[str, Tensor]:
        """Return the signals at the end of each latent of a chunk, (B, F, ...)."""
        return self.at(torch.cat([before[:, None], joints[:, :-1]], 1), joints)
