"""What the engine needs of a VAE: pixels to normalised latents and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .causal_conv import VAECache


class Codec(nn.Module, ABC):
    """Pixels to normalised latents and back, causally: what the engine needs of a VAE."""

    latent_mean: Tensor  # (C,)
    latent_scale: Tensor  # (C,)
    spatial_factor: int
    """Pixels per latent cell, each way."""

    @abstractmethod
    def encode(
        self,
        pixels: Tensor,  # (B, 4F - 3, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return normalised latents (the posterior's mean), (B, F, C, h, w)."""

    def encode_chunk(
        self,
        pixels: Tensor,  # (B, 4F, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Encode frames that go on from others, as if these had been like the first four; (B, F, C, h, w).

        Raises:
            ValueError: if this codec cannot.
        """
        raise ValueError(f"{type(self).__name__} encodes whole clips only")

    @abstractmethod
    def decode(
        self,
        latents: Tensor,  # (B, F, C, h, w) normalised
        cache: VAECache | None = None,
    ) -> Tensor:
        """Decode to pixels (B, 4F, 3, H, W) in [-1, 1]; the cache, if given, carries the past and is updated.

        Without a past (no cache, or a fresh one) the first latent is the lone first frame: (B, 4F - 3, 3, H, W).
        """

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype that the decoder computes in."""

    def normalise(
        self,
        latents: Tensor,  # (B, F, C, h, w)
    ) -> Tensor:
        """Bring channels to zero mean and their common scale."""
        return (latents - self.latent_mean[:, None, None]) / self.latent_scale[:, None, None]

    def denormalise(
        self,
        latents: Tensor,  # (B, F, C, h, w)
    ) -> Tensor:
        """Undo ``normalise``."""
        return latents * self.latent_scale[:, None, None] + self.latent_mean[:, None, None]


def to_pixels(
    frames: Tensor,  # (..., H, W, 3) uint8
) -> Tensor:
    """Map frames to pixels in [-1, 1], channels first: (..., 3, H, W) float32."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def to_frames(
    pixels: Tensor,  # (..., 3, H, W) in [-1, 1]
) -> Tensor:
    """Map pixels to frames (..., H, W, 3) uint8, rounding."""
    return pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)
