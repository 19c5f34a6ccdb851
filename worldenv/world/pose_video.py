"""The pose video: a world's robot alone, drawn where its joints are commanded and encoded as pictures are (WorldScape).

The robot is known, the objects are imagined. Kinematics draw the frames between two commands, and each latent is
encoded for itself: it depends on these two alone, whatever the chunks are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bodies.registry import robot_of
from ..bodies.robot import RobotBody
from ..dynamics.signals import POSE_VIDEO, Track
from ..dynamics.spec import WorldSpec
from ..geometry.camera import Pinhole, seen_at
from ..models.codec import Codec, to_pixels


class GraspView:
    """Tells where in a world's pictures its robot's grasp is."""

    FARTHEST = 4.0
    """Of the picture's half sides, beyond which it is not told."""

    def __init__(self, spec: WorldSpec, option: str = "grasp_offsets") -> None:
        """Know the robot of a world whose transformer has ``option`` of [dit]."""
        self.body, self.camera = _seen_robot(spec, option)

    def __call__(
        self,
        joints: Tensor,  # (..., J)
    ) -> Tensor:
        """Return its place, x and y in -1..1 over the picture's sides, (..., 2) float32."""
        place = seen_at(self.body.grasp(joints.double()), self.camera)
        return place.clamp(-self.FARTHEST, self.FARTHEST).float()


def _seen_robot(spec: WorldSpec, option: str) -> tuple[RobotBody, Pinhole]:
    """Return a world's robot and the camera that sees it, or say that ``option`` of [dit] needs them."""
    body = robot_of(spec)
    camera = None if body is None else body.view(spec)
    if body is None or camera is None:
        raise ValueError(
            f"{option} = true shows a robot, and this world takes {', '.join(spec.takes)}; leave it out of [dit]"
        )
    return body, camera


class PoseVideo:
    """Draws and encodes the robot of a world.

    Raises:
        ValueError: if what commands the world is no robot that a camera sees.
    """

    def __init__(self, spec: WorldSpec, vae: Codec) -> None:
        self.body, self.camera = _seen_robot(spec, "pose_video")
        self.vae, self.num_frames = vae, spec.frames_per_latent

    def frames(
        self,
        before: Tensor,  # (B, J) commanded before the first latent
        joints: Tensor,  # (B, F, J) at the end of each latent
    ) -> Tensor:
        """Draw the way through each latent, which is even, (B, F, T, H, W, 3) uint8."""
        start = torch.cat([before[:, None].to(joints), joints[:, :-1]], 1)
        share = (torch.arange(self.num_frames, device=joints.device) + 1)[:, None] / self.num_frames
        return self.body.pose_video(start[:, :, None].lerp(joints[:, :, None], share), self.camera)

    def clip(
        self,
        joints: Tensor,  # (F, J) commanded before the first latent, then at the end of each
    ) -> Tensor:
        """Draw a whole clip, (T, H, W, 3) uint8: the start view, then the way through each latent."""
        first = self.body.pose_video(joints[:1], self.camera)
        return torch.cat([first, self.frames(joints[:1], joints[None, 1:])[0].flatten(0, 1)])

    @torch.no_grad()
    def latents(
        self,
        before: Tensor,  # (B, J)
        joints: Tensor,  # (B, F, J)
    ) -> Tensor:
        """Return the pose video's latents, (B, F, C, h, w) float32."""
        pixels = to_pixels(self.frames(before, joints).flatten(0, 1))
        encoded = self.vae.encode_chunk(pixels.to(self.vae.latent_mean.device, self.vae.dtype))
        return encoded[:, 0].unflatten(0, joints.shape[:2]).float()

    def beside(
        self,
        track: Track,  # each (B, F, ...): what is commanded of latents to come
        before: Tensor,  # (B, J) commanded before them
    ) -> Track:
        """Return the same track with the pose video's latents."""
        return Track({**track, POSE_VIDEO: self.latents(before, track["joints"])})
