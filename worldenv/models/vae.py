"""A causal video VAE: 8x or 16x in space, 4x in time, the first frame alone, then groups of four; or of pictures.

Encoder and decoder are each a linear map of patches of four frames plus a convolutional network that corrects it. The
linear maps start as the principal components of the training data, so that training begins at the quality of PCA (a few
dB above what small convolutional networks reach in minutes) and spends its time on what lies beyond.

The first frame is repeated to fill a group of its own, so that every latent covers exactly four frame slots and a
still picture is a short still video. Convolutions look back in time only; ``VAECache`` carries what they look back
at, so that decoding latent by latent equals decoding the whole clip (WorldPlay 3.1, 3.5). With one frame per latent
nothing looks back: every frame has a latent that depends on it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base.config import check_numbers
from ..dynamics.spec import FRAMES_PER_LATENT
from .causal_conv import CausalConv3d, ChannelNorm, ResBlock, VAECache
from .codec import Codec
from .patches import channel_to_space, channel_to_time, fold, space_to_channel, time_to_channel, unfold


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of the VAE."""

    latent_channels: int = 16
    """Channels of a latent cell."""
    encoder_widths: tuple[int, int, int] = (32, 64, 128)
    """Channels at 4 / stride, 2 / stride (per frame) and 1 / stride of the resolution (per group of four frames)."""
    decoder_widths: tuple[int, int, int] = (48, 96, 192)
    """The same, for the decoder."""
    num_blocks: int = 1
    """Residual blocks per resolution."""
    stride: int = 8
    """Pixels per latent cell, each way: 8 or 16."""
    frames_per_latent: int = FRAMES_PER_LATENT
    """Frames that a latent shows, the world's: 4, or 1."""

    def __post_init__(self) -> None:
        sizes = ("latent_channels", "encoder_widths", "decoder_widths")
        check_numbers(self, sizes=sizes, layers=("num_blocks",))
        if self.stride not in (8, 16):
            raise ValueError(f"[vae] stride={self.stride} must be 8 or 16")
        if self.frames_per_latent not in (1, FRAMES_PER_LATENT):
            raise ValueError(f"[vae] frames_per_latent={self.frames_per_latent} must be 1 or {FRAMES_PER_LATENT}")

    @property
    def halvings(self) -> int:
        """How often a picture is halved, each way."""
        return self.stride.bit_length() - 1

    @property
    def patch_dim(self) -> int:
        """Numbers of a patch: of a latent's frames, the pixels of one latent cell."""
        return 3 * self.frames_per_latent * self.stride**2

    def looks_back(self, kernel: int) -> int:
        """Return how many latents a convolution over time reads: one, where a latent is a picture."""
        return kernel if self.frames_per_latent > 1 else 1


class Encoder(nn.Module):
    """Frames to the mean and log-variance of latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        a, b, c = config.encoder_widths
        self.halvings, self.num_frames = config.halvings, config.frames_per_latent
        self.stem = CausalConv3d(3 * 4 ** (self.halvings - 2), a)
        self.down1 = CausalConv3d(4 * a, b)
        self.down2 = CausalConv3d(4 * b, b, kernel=(1, 1, 1))
        self.merge = CausalConv3d(self.num_frames * b, c)
        blocks = range(config.num_blocks)
        self.blocks1 = nn.ModuleList(ResBlock(a, time_kernel=1) for _ in blocks)
        self.blocks2 = nn.ModuleList(ResBlock(b, time_kernel=1) for _ in blocks)
        self.blocks3 = nn.ModuleList(ResBlock(c, time_kernel=config.looks_back(2)) for _ in blocks)
        self.norm = ChannelNorm(c)
        self.head = CausalConv3d(c, 2 * config.latent_channels)
        self.linear = CausalConv3d(config.patch_dim, config.latent_channels, kernel=(1, 1, 1))
        self.head.zero_init()

    def forward(
        self,
        x: Tensor,  # (B, 3, 4F, H, W)
        cache: VAECache,
    ) -> Tensor:
        linear = self.linear(fold(x, self.halvings, self.num_frames), cache)
        for _ in range(self.halvings - 3):
            x = space_to_channel(x)
        x = self.stem.halve(x, cache)
        for block in self.blocks1:
            x = block(x, cache)
        x = self.down1.halve(x, cache)
        for block in self.blocks2:
            x = block(x, cache)
        x = self.merge(time_to_channel(self.down2.halve(x, cache), self.num_frames), cache)
        for block in self.blocks3:
            x = block(x, cache)
        mean, log_variance = self.head(F.silu(self.norm(x)), cache).chunk(2, 1)
        return torch.cat([mean + linear, log_variance], 1)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        a, b, c = config.decoder_widths
        self.halvings, self.num_frames = config.halvings, config.frames_per_latent
        self.stem = CausalConv3d(config.latent_channels, c, kernel=(config.looks_back(2), 3, 3))
        self.split = CausalConv3d(c, self.num_frames * c, kernel=(1, 1, 1))
        self.up1 = CausalConv3d(c, 4 * b, kernel=(1, 1, 1))
        self.up2 = CausalConv3d(b, 4 * a, kernel=(1, 1, 1))
        blocks = range(config.num_blocks)
        self.blocks1 = nn.ModuleList(ResBlock(c, time_kernel=config.looks_back(2)) for _ in blocks)
        self.blocks2 = nn.ModuleList(ResBlock(b, time_kernel=config.looks_back(3)) for _ in blocks)
        self.blocks3 = nn.ModuleList(ResBlock(a, time_kernel=1) for _ in blocks)
        self.norm = ChannelNorm(a)
        self.up3 = CausalConv3d(a, 4 * 16)
        self.head = CausalConv3d(16, 3 * 4 ** (self.halvings - 3))
        self.linear = CausalConv3d(config.latent_channels, config.patch_dim, kernel=(1, 1, 1))
        self.head.zero_init()

    def forward(
        self,
        z: Tensor,  # (B, C, F, h, w)
        cache: VAECache,
    ) -> Tensor:
        linear = unfold(self.linear(z, cache), self.halvings, self.num_frames)
        x = self.stem(z, cache)
        for block in self.blocks1:
            x = block(x, cache)
        x = channel_to_space(self.up1(channel_to_time(self.split(x, cache), self.num_frames), cache))
        for block in self.blocks2:
            x = block(x, cache)
        x = channel_to_space(self.up2(x, cache))
        for block in self.blocks3:
            x = block(x, cache)
        x = channel_to_space(self.up3(F.silu(self.norm(x)), cache))
        x = self.head(F.silu(x), cache)
        for _ in range(self.halvings - 3):
            x = channel_to_space(x)
        return linear + x


class VAE(Codec):
    """Encoder, decoder and the latents' normalisation (buffers ``latent_mean`` and ``latent_scale``)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config, self.spatial_factor = config, config.stride
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_scale", torch.ones(config.latent_channels))

    @torch.no_grad()
    def init_linear(
        self,
        pixels: Tensor,  # (B, 4F - 3, 3, H, W) in [-1, 1]
    ) -> None:
        """Set the linear maps to the principal components of these clips' patches."""
        halvings, every = self.config.halvings, self.config.frames_per_latent
        patches = fold(pixels[:, 1:].transpose(1, 2), halvings, every).movedim(1, -1).flatten(0, -2).double()
        mean = patches.mean(0)
        covariance = (patches - mean).T @ (patches - mean) / len(patches)
        components = torch.linalg.eigh(covariance).eigenvectors[:, -self.config.latent_channels :].flip(1)
        into, out = self.encoder.linear.conv, self.decoder.linear.conv
        into.weight.copy_(components.T[:, :, None, None, None])
        out.weight.copy_(components[:, :, None, None, None])
        for bias, value in ((into.bias, -components.T @ mean), (out.bias, mean)):
            assert bias is not None
            bias.copy_(value)

    def posterior(
        self,
        pixels: Tensor,  # (B, 1 + 4 (F - 1), 3, H, W) in [-1, 1]
    ) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, C, F, h, w), of un-normalised latents."""
        num_frames, every = pixels.shape[1], self.config.frames_per_latent
        if (num_frames - 1) % every:
            rest = (num_frames - 1) % every
            raise ValueError(f"a clip has {every}N + 1 frames, got {num_frames}; drop {rest} frames")
        first = pixels[:, :1].expand(-1, every - 1, -1, -1, -1)
        moments = self.encoder(torch.cat([first, pixels], 1).transpose(1, 2), VAECache())
        mean, log_variance = moments.float().chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def encode(
        self,
        pixels: Tensor,  # (B, 4F - 3, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return normalised latents (the posterior's mean), (B, F, C, h, w)."""
        mean, _ = self.posterior(pixels)
        return self.normalise(mean.transpose(1, 2))

    def encode_chunk(
        self,
        pixels: Tensor,  # (B, 4F, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Encode frame by frame where nothing looks back, which on CPUs is faster; see ``Codec.encode_chunk``."""
        moments = self.encoder(pixels.transpose(1, 2), VAECache(flat=True))
        return self.normalise(moments.float().chunk(2, 1)[0].transpose(1, 2))

    def decode(
        self,
        latents: Tensor,  # (B, F, C, h, w) normalised
        cache: VAECache | None = None,
    ) -> Tensor:
        """Decode; see ``Codec.decode``. Of the first latent's four slots only the last counts, three are dropped."""
        z = self.denormalise(latents)
        fresh = cache is None or not cache.tensors
        cache = VAECache() if cache is None else cache
        cache.cursor = 0
        pixels: Tensor = self.decoder(z.transpose(1, 2).to(self.dtype), cache).float().transpose(1, 2)
        return pixels[:, self.config.frames_per_latent - 1 :] if fresh else pixels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the decoder computes in."""
        return self.decoder.stem.conv.weight.dtype
