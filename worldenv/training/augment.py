"""What generated pictures suffer from, done to recorded ones, so that what learns from these bears with those."""

from __future__ import annotations

from collections.abc import Sequence
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


def round_trip(
    vae: Codec,
    frames: Tensor,  # (T, H, W, 3) uint8
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode and decode a clip, with noise on its latents of a strength drawn up to ``noise``; (T, H, W, 3) uint8."""
    return round_trips(vae, [frames], noise=noise, generators=[generator])[0]


@torch.no_grad()
def round_trips(
    vae: Codec,
    clips: Sequence[Tensor],  # each (T, H, W, 3) uint8
    *,
    noise: float = 0.0,
    generators: Sequence[torch.Generator | None],  # one for each
) -> list[Tensor]:
    """Do so with clips of several lengths at once: shorter ones repeat their end, which nothing before it sees."""
    device, longest = vae.latent_mean.device, max(len(frames) for frames in clips)
    whole = torch.stack([torch.cat([c, c[-1:].expand(longest - len(c), -1, -1, -1)]) for c in clips])
    with torch.autocast(device.type, torch.bfloat16, enabled=default_dtype(device) == torch.bfloat16):
        latents = vae.encode(to_pixels(whole).to(device, vae.dtype))
        if noise:
            latents = latents + torch.stack([_noise(latents[0].shape, noise, one) for one in generators]).to(device)
        made = to_frames(vae.decode(latents)).cpu()
    return [frames[: len(clip)] for frames, clip in zip(made, clips, strict=True)]


def _noise(shape: torch.Size, most: float, generator: torch.Generator | None) -> Tensor:
    """Draw noise of a strength drawn up to ``most``."""
    return most * torch.rand((), generator=generator) * torch.randn(shape, generator=generator)
