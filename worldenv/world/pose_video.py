"""The pose video: a world's robot alone, drawn where its joints are commanded and encoded as pictures are (WorldScape).

The robot is known, the objects are imagined. Kinematics draw the frames between two commands, and each latent is
encoded for itself: it depends on these two alone, whatever the chunks are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bodies.registry import robot_of
from ..dynamics.signals import POSE_VIDEO, Track
from ..dynamics.spec import WorldSpec
from ..models.codec import Codec, to_pixels


class PoseVideo:
    """Draws and encodes the robot of a world.

    Raises:
        ValueError: if what commands the world is no robot that a camera sees.
    """

    def __init__(self, spec: WorldSpec, vae: Codec) -> None:
        body = robot_of(spec)
        camera = None if body is None else body.view(spec)
        if body is None or camera is None:
            raise ValueError(
                f"pose_video = true draws a robot, and this world takes {', '.join(spec.takes)}; leave it out of [dit]"
            )
        self.body, self.vae, self.num_frames, self.camera = body, vae, spec.frames_per_latent, camera

    def frames(
        self,
        before: Tensor,  # (B, J) commanded before the first latent
        joints: Tensor,  # (B, F, J) at the end of each latent
    ) -> Tensor:
        """Draw the way through each latent, which is even, (B, F, T, H, W, 3) uint8."""
        start = torch.cat([before[:, None].to(joints), joints[:, :-1]], 1)
        share = (torch.arange(self.num_frames, device=joints.device) + 1)[:, None] / self.num_frames
        return self.body.pose_video(start[:, :, None].lerp(joints[:, :, None], share), self.camera)

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
