"""A tiny decoder for Wan latents (TAEHV's architecture, weights ``taew2_2`` from its author) behind the codec.

Three stages of 2-D convolutions, each doubling space; the last two also double time. Blocks with memory see the frame
before (zeros before the first). Several times faster than the full decoder, at some cost in detail.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.checkpoint import load_module
from ...dynamics.spec import FRAMES_PER_LATENT
from ..causal_conv import VAECache
from ..codec import Codec
from .archive import read_archive

_STAGES = ((3, 1), (9, 2), (15, 2))
"""Place of each stage's first block in TAEHV's list of layers, and by how much it multiplies frames."""
_BLOCKS = 3


class MemoryBlock(nn.Module):
    """Three convolutions over a frame and the one before it, with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(
        self,
        x: Tensor,  # (B, T, C, h, w)
        past: Tensor,  # (B, 1, C, h, w): the frame before
    ) -> Tensor:
        before = torch.cat([past.to(x.dtype), x[:, :-1]], 1)
        out: Tensor = self.conv(torch.cat([x, before], 2).flatten(0, 1))
        return F.relu(out.unflatten(0, x.shape[:2]) + x)


class TinyStage(nn.Module):
    """Memory blocks, twice the size, ``grow`` frames out of each, another width."""

    def __init__(self, width: int, width_out: int, *, grow: int) -> None:
        super().__init__()
        self.grow = grow
        self.blocks = nn.ModuleList(MemoryBlock(width) for _ in range(_BLOCKS))
        self.time = nn.Conv2d(width, width * grow, 1, bias=False)
        self.out = nn.Conv2d(width, width_out, 3, padding=1, bias=False)

    def forward(
        self,
        x: Tensor,  # (B, T, C, h, w)
        cache: VAECache,
    ) -> Tensor:
        for block in self.blocks:
            if cache.cursor == len(cache.tensors):
                cache.tensors.append(torch.zeros_like(x[:, :1]))
            past, cache.tensors[cache.cursor] = cache.tensors[cache.cursor], x[:, -1:]
            cache.cursor += 1
            x = block(x, past)
        batch, frames = x.shape[:2]
        grown: Tensor = self.time(F.interpolate(x.flatten(0, 1), scale_factor=2))
        grown = grown.unflatten(1, (self.grow, -1)).flatten(0, 1)
        out: Tensor = self.out(grown)
        return out.unflatten(0, (batch, frames * self.grow))


class TinyDecoder(nn.Module):
    """Normalised latents to pixels in 0..1."""

    def __init__(self, latent_channels: int, widths: tuple[int, int, int, int], *, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.stem = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            TinyStage(a, b, grow=grow) for a, b, (_, grow) in zip(widths, widths[1:], _STAGES, strict=False)
        )
        self.head = nn.Conv2d(widths[3], 3 * patch**2, 3, padding=1)

    def forward(
        self,
        latents: Tensor,  # (B, F, C, h, w)
        cache: VAECache,
    ) -> Tensor:
        """Return (B, 4F, 3, 8 patch h, 8 patch w)."""
        batch = len(latents)
        x = F.relu(self.stem(3 * torch.tanh(latents.flatten(0, 1) / 3))).unflatten(0, (batch, -1))
        for stage in self.stages:
            x = stage(x, cache)
        pixels = F.pixel_shuffle(self.head(F.relu(x.flatten(0, 1))), self.patch)
        return pixels.clamp(0, 1).unflatten(0, (batch, -1))


class TinyVAE(Codec):
    """Encodes with the full VAE and decodes with the tiny decoder."""

    def __init__(self, full: Codec, decoder: TinyDecoder) -> None:
        super().__init__()
        self.full, self.decoder, self.spatial_factor = full, decoder, full.spatial_factor
        self.register_buffer("latent_mean", full.latent_mean, persistent=False)
        self.register_buffer("latent_scale", full.latent_scale, persistent=False)

    def encode(
        self,
        pixels: Tensor,  # (B, 4F - 3, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return the full VAE's latents."""
        return self.full.encode(pixels)

    def decode(
        self,
        latents: Tensor,  # (B, F, C, h, w) normalised
        cache: VAECache | None = None,
    ) -> Tensor:
        """Decode; see ``Codec.decode``. Of the first latent's four frames only the last counts."""
        fresh = cache is None or not cache.tensors
        cache = VAECache() if cache is None else cache
        cache.cursor = 0
        pixels = 2 * self.decoder(latents.to(self.dtype), cache).float() - 1
        return pixels[:, FRAMES_PER_LATENT - 1 :] if fresh else pixels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the decoder computes in."""
        return self.decoder.stem.weight.dtype


def load_tiny_vae(
    full: Codec, file: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TinyVAE:
    """Put TAEHV's decoder (``taew2_2.pth`` or ``.safetensors``) behind a VAE; widths are read off the file.

    Raises:
        ValueError: if the file is unreadable, or its decoder fits neither the architecture nor the VAE.
    """
    tensors = {k.removeprefix("decoder."): v for k, v in read_archive(file).items() if k.startswith("decoder.")}
    convolutions = [f"{place}.weight" for place in ("1", "8", "14", "20", "22")]
    missing = [name for name in convolutions if name not in tensors]
    if missing:
        raise ValueError(f"{file}: {', '.join('decoder.' + m for m in missing)} missing; this is no TAEHV decoder")
    stem, *outs, head = (tensors[name] for name in convolutions)
    widths = (len(stem), *(len(out) for out in outs))
    patch = round((len(head) / 3) ** 0.5)
    channels, factor = len(full.latent_mean), 8 * patch
    if stem.shape[1] != channels or factor != full.spatial_factor:
        raise ValueError(
            f"{file}: decodes {stem.shape[1]} channels to {factor}x their size, this VAE has {channels} and "
            f"{full.spatial_factor}x; WorldPlay-5B needs taew2_2"
        )
    decoder = TinyDecoder(channels, widths, patch=patch)  # type: ignore[arg-type]
    load_module(decoder, {_own_name(name): tensor for name, tensor in tensors.items()}, where=str(file))
    return TinyVAE(full, decoder.to(device, dtype).eval().requires_grad_(False))


def _own_name(name: str) -> str:
    """Translate TAEHV's place in a list of layers to our names; what is unknown keeps its name and is refused."""
    place, _, rest = name.partition(".")
    if place in ("1", "22"):
        return f"{'stem' if place == '1' else 'head'}.{rest}"
    for stage, (first, _) in enumerate(_STAGES):
        offset = int(place) - first if place.isdigit() else -1
        if 0 <= offset < _BLOCKS:
            return f"stages.{stage}.blocks.{offset}.{rest}"
        if offset == _BLOCKS + 1:
            return f"stages.{stage}.time.{rest.removeprefix('conv.')}"
        if offset == _BLOCKS + 2:
            return f"stages.{stage}.out.{rest}"
    return f"decoder.{name}"
