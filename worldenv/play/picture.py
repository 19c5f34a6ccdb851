"""Pictures of any size as start views."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..dynamics.spec import WorldSpec


def fit_picture(
    picture: Tensor,  # (H, W, 3) uint8
    spec: WorldSpec,
) -> Tensor:
    """Scale a picture to cover the world's frame and crop its middle; (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    scale = max(spec.height / height, spec.width / width)
    size = (max(spec.height, round(height * scale)), max(spec.width, round(width * scale)))
    pixels = F.interpolate(picture.movedim(-1, 0)[None].float(), size=size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - spec.height) // 2, (size[1] - spec.width) // 2
    cropped = pixels.clamp(0, 255).round()[:, top : top + spec.height, left : left + spec.width]
    return cropped.to(picture.dtype).movedim(0, -1).contiguous()
