"""Wan2.2's VAE from diffusers behind the codec that the engine steps, with a decoder that streams and resets by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..causal_conv import VAECache
from ..codec import Codec
from ..ranks import Ranks
from .tiles import share_rows

WAN22: Mapping[str, Any] = {
    "z_dim": 48,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
}
"""Sizes of the released VAE (diffusers' names)."""
PAST = 2
"""Latent slots that every causal convolution of the decoder looks back."""


class WanVAE(Codec):
    """``AutoencoderKLWan`` with normalised latents.

    Latents are the posterior's mean; the release samples it, which only adds noise of the posterior's width.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the network of a diffusers configuration, on random weights.

        Raises:
            ImportError: if diffusers is not installed.
        """
        try:
            from diffusers import AutoencoderKLWan
            from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, unpatchify
        except ImportError:
            raise ImportError("WorldPlay's VAE comes from diffusers; pip install 'worldenv[worldplay]'") from None
        super().__init__()
        known = {key: value for key, value in config.items() if not key.startswith("_")}
        self.vae: Any = AutoencoderKLWan(**known)
        self._unpatchify = unpatchify
        self._ranks: Ranks | None = None
        self.spatial_factor = int(self.vae.config.scale_factor_spatial)
        self._upsamplers = [
            m for m in self.vae.decoder.modules() if isinstance(m, WanResample) and m.mode == "upsample3d"
        ]
        channels = self.vae.config.z_dim
        mean, std = (known.get(f"latents_{n}", [v] * channels) for n, v in (("mean", 0.0), ("std", 1.0)))
        self.register_buffer("latent_mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("latent_scale", torch.tensor(std, dtype=torch.float32), persistent=False)

    def share(self, ranks: Ranks) -> None:
        """Decode rows of pictures here and the others in other processes, from now on; everybody gets all of them."""
        assert self._ranks is None
        self._ranks = ranks
        share_rows(self.vae.decoder, ranks)

    def encode(
        self,
        pixels: Tensor,  # (B, 4F - 3, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return normalised latents (the posterior's mean), (B, F, C, h, w)."""
        z = self.vae.encode(pixels.transpose(1, 2).to(self.dtype)).latent_dist.mode()
        return self.normalise(z.float().transpose(1, 2))

    def decode(
        self,
        latents: Tensor,  # (B, F, C, h, w) normalised
        cache: VAECache | None = None,
    ) -> Tensor:
        """Decode to pixels in [-1, 1]; see ``Codec.decode``."""
        cache = VAECache() if cache is None else cache
        z = self.vae.post_quant_conv(self.denormalise(latents).transpose(1, 2).to(self.dtype))
        z = z if self._ranks is None else self._ranks.rows(z)
        pieces = []
        for latent in z.split(1, dim=2):
            fresh = not cache.tensors
            state: list[Any] = [None] * self.vae._cached_conv_counts["decoder"]
            state[: len(cache.tensors)] = cache.tensors
            decoded = self.vae.decoder(latent, feat_cache=state, feat_idx=[0], first_chunk=fresh)
            cache.tensors = self._even(state) if fresh else [t for t in state if t is not None]
            pieces.append(decoded)
        pixels: Tensor = torch.cat(pieces, 2)
        if self.vae.config.patch_size is not None:
            pixels = self._unpatchify(pixels, patch_size=self.vae.config.patch_size)
        if self._ranks is not None:
            pixels, _ = self._ranks.whole_rows(pixels)
        return pixels.clamp(-1, 1).float().transpose(1, 2)

    def _even(self, state: list[Any]) -> list[Tensor]:
        """Give the caches of a clip's first latent the shape of all later ones, so that rows can be exchanged.

        What is not there yet is what the convolutions pad with: zeros.
        """
        upsamplers, tensors = iter(self._upsamplers), list[Tensor]()
        for entry in state:
            if entry is None:
                continue  # convolutions without a past
            if isinstance(entry, str):  # diffusers marks a temporal upsampler that has seen the first latent only
                before, channels = tensors[-1], next(upsamplers).time_conv.in_channels
                entry = before.new_zeros(len(before), channels, PAST, *before.shape[3:])
            missing = PAST - entry.shape[2]
            past = entry.new_zeros(*entry.shape[:2], missing, *entry.shape[3:])
            tensors.append(torch.cat([past, entry], 2))
        return tensors

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the decoder computes in."""
        dtype: torch.dtype = self.vae.post_quant_conv.weight.dtype
        return dtype


def load_wan_vae(
    config: Mapping[str, Any], file: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> WanVAE:
    """Build the VAE of a release and load its weights strictly.

    Raises:
        ValueError: if the file is unreadable or holds another network.
    """
    from ...base.checkpoint import load_module, load_tensors

    vae = WanVAE(config)
    tensors, _ = load_tensors(file)
    load_module(vae.vae, tensors, where=str(file))
    return vae.to(device, dtype).eval().requires_grad_(False)
