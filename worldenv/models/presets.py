"""Sizes that are used again and again; any others are as good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .pretrained.worldplay import WORLDPLAY_5B
from .types import DiTConfig
from .vae import VAEConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A VAE and a transformer that fit each other."""

    vae: VAEConfig
    """Sizes of the VAE; those of a released model are the release's own."""
    dit: DiTConfig
    """Sizes of the transformer."""


PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(
        vae=VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)),
        dit=DiTConfig(latent_channels=4, width=48, num_layers=2, num_heads=2, ffn_dim=96),
    ),
    "maze": Preset(
        vae=VAEConfig(latent_channels=24),
        dit=DiTConfig(latent_channels=24, width=256, num_layers=8, num_heads=4, ffn_dim=1024),
    ),
    "worldplay": Preset(vae=VAEConfig(latent_channels=48), dit=WORLDPLAY_5B),
}
"""``tiny`` for tests and for measuring all but the model; ``maze``, the packaged world; ``worldplay``, the release."""
