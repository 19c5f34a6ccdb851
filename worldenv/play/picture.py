"""Pictures of any size as start views."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..dynamics.spec import WorldSpec


def fit_picture(
    picture: Tensor,  # (H, W, 3) uint8
    spec: WorldSpec,
) -> Tensor:
    """Crop the middle of a picture to the shape of the world's frame and scale it; (H, W, 3) uint8.

    Cropped first: whatever its shape, nothing larger than the picture is ever made of it.
    """
    height, width = picture.shape[:2]
    size = (spec.height, spec.width)
    rows = max(1, min(height, round(width * spec.height / spec.width)))
    columns = max(1, min(width, round(height * spec.width / spec.height)))
    top, left = (height - rows) // 2, (width - columns) // 2
    cropped = picture[top : top + rows, left : left + columns].movedim(-1, 0)[None].float()
    pixels = F.interpolate(cropped, size=size, mode="bicubic", antialias=True)[0].clamp(0, 255).round()
    return pixels.to(picture.dtype).movedim(0, -1).contiguous()
