"""Patches of pixels as channels, and back."""

from __future__ import annotations

from torch import Tensor

from ..dynamics.spec import FRAMES_PER_LATENT


def space_to_channel(
    x: Tensor,  # (B, C, T, 2h, 2w)
) -> Tensor:
    """Fold 2x2 pixels into channels; shape (B, 4C, T, h, w)."""
    batch, channels, time, height, width = x.shape
    x = x.reshape(batch, channels, time, height // 2, 2, width // 2, 2)
    return x.permute(0, 1, 4, 6, 2, 3, 5).reshape(batch, 4 * channels, time, height // 2, width // 2)


def channel_to_space(
    x: Tensor,  # (B, 4C, T, h, w)
) -> Tensor:
    """Unfold channels into 2x2 pixels; shape (B, C, T, 2h, 2w)."""
    batch, channels, time, height, width = x.shape
    x = x.reshape(batch, channels // 4, 2, 2, time, height, width).permute(0, 1, 4, 5, 2, 6, 3)
    return x.reshape(batch, channels // 4, time, 2 * height, 2 * width)


def time_to_channel(
    x: Tensor,  # (B, C, 4F, h, w)
    frames: int = FRAMES_PER_LATENT,
) -> Tensor:
    """Fold groups of four frames, or of so many, into channels; shape (B, 4C, F, h, w)."""
    x = x.unflatten(2, (-1, frames))
    return x.permute(0, 1, 3, 2, 4, 5).flatten(1, 2)


def channel_to_time(
    x: Tensor,  # (B, 4C, F, h, w)
    frames: int = FRAMES_PER_LATENT,
) -> Tensor:
    """Unfold channels into groups of four frames, or of so many; shape (B, C, 4F, h, w)."""
    x = x.unflatten(1, (-1, frames))
    return x.permute(0, 1, 3, 2, 4, 5).flatten(2, 3)


def fold(
    x: Tensor,  # (B, 3, 4F, 2^k h, 2^k w)
    halvings: int = 3,
    frames: int = FRAMES_PER_LATENT,
) -> Tensor:
    """Fold patches of 4 x 2^k x 2^k into channels; (B, 12 4^k, F, h, w)."""
    for _ in range(halvings):
        x = space_to_channel(x)
    return time_to_channel(x, frames)


def unfold(
    x: Tensor,  # (B, 12 4^k, F, h, w)
    halvings: int = 3,
    frames: int = FRAMES_PER_LATENT,
) -> Tensor:
    """Unfold channels into patches of 4 x 2^k x 2^k; (B, 3, 4F, 2^k h, 2^k w)."""
    x = channel_to_time(x, frames)
    for _ in range(halvings):
        x = channel_to_space(x)
    return x
