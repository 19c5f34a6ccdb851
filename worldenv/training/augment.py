"""What generated pictures suffer from, done to recorded ones, so that what learns from these bears with those."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..base.device import default_dtype
from ..models.codec import Codec, to_frames, to_pixels


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Largest strengths; every window draws its own, uniformly from none on."""

    untouched: float = 0.3
    """Share of windows left as they are."""
    contrast: float = 0.3
    """Relative change of contrast, for a whole window."""
    brightness: float = 0.2
    """Change of brightness, in pixel values of -1..1, for a whole window."""
    tint: float = 0.15
    """Relative change of each colour, for a whole window."""
    blur: float = 1.0
    """Share of a 3x3 mean; half as much sharpens instead."""
    blotches: float = 0.1
    """Standard deviation of smooth noise, cells of 8 pixels, of every frame anew."""
    noise: float = 0.05
    """Standard deviation of noise of single pixels."""


def degrade(
    pixels: Tensor,  # (B, T, 3, H, W) in [-1, 1]
    config: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """Change colours (of a window alike), blur or sharpen, add smooth and fine noise (of each frame anew)."""
    batch, count, _, height, width = pixels.shape

    def strength(channels: int = 1) -> Tensor:
        return torch.rand(batch, 1, channels, 1, 1, generator=generator)

    def signed(channels: int = 1) -> Tensor:
        return 2 * strength(channels) - 1

    x = pixels * (1 + config.contrast * signed()) * (1 + config.tint * signed(3)) + config.brightness * signed()
    flat = x.flatten(0, 1)
    mean = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1).view_as(x)
    x = x.lerp(mean, config.blur * (1.5 * strength() - 0.5))
    coarse = torch.randn(batch * count, 3, height // 8, width // 8, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear").view_as(x)
    x = x + config.blotches * strength() * smooth
    x = x + config.noise * strength() * torch.randn(x.shape, generator=generator)
    return torch.where(strength() < config.untouched, pixels, x.clamp(-1, 1))


@torch.no_grad()
def round_trip(
    vae: Codec,
    frames: Tensor,  # (T, H, W, 3) uint8
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode and decode a clip, with noise on its latents of a strength drawn up to ``noise``; (T, H, W, 3) uint8."""
    device = vae.latent_mean.device
    with torch.autocast(device.type, torch.bfloat16, enabled=default_dtype(device) == torch.bfloat16):
        latents = vae.encode(to_pixels(frames)[None].to(device, vae.dtype))
        if noise:
            level = noise * torch.rand((), generator=generator)
            latents = latents + (level * torch.randn(latents.shape, generator=generator)).to(device)
        return to_frames(vae.decode(latents)[0]).cpu()
