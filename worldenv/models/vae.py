"""A causal video VAE: 8x or 16x in space, 4x in time, the first frame alone, then groups of four.

Encoder and decoder are each a linear map of patches of four frames plus a convolutional network that corrects it. The
linear maps start as the principal components of the training data, so that training begins at the quality of PCA (a few
dB above what small convolutional networks reach in minutes) and spends its time on what lies beyond.

The first frame is repeated to fill a group of its own, so that every latent covers exactly four frame slots and a
still picture is a short still video. Convolutions look back in time only; ``VAECache`` carries what they look back
at, so that decoding latent by latent equals decoding the whole clip (WorldPlay 3.1, 3.5).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base.config import check_numbers
from ..dynamics.spec import FRAMES_PER_LATENT


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

    def __post_init__(self) -> None:
        counts = ("latent_channels", "encoder_widths", "decoder_widths")
        check_numbers(self, counts=counts, natural=("num_blocks",))
        if self.stride not in (8, 16):
            raise ValueError(f"[vae] stride={self.stride} must be 8 or 16")

    @property
    def halvings(self) -> int:
        """How often a picture is halved, each way."""
        return self.stride.bit_length() - 1

    @property
    def patch_dim(self) -> int:
        """Numbers of a patch: of four frames, the pixels of one latent cell."""
        return 3 * FRAMES_PER_LATENT * self.stride**2


@dataclass
class VAECache:
    """The last inputs of every causal convolution, in call order: tensors (B, C, k - 1, h, w)."""

    tensors: list[Tensor] = field(default_factory=list)
    cursor: int = 0
    flat: bool = False
    """Whether convolutions that do not look back run frame by frame: faster on CPUs, equal but for rounding."""

    def take(self, x: Tensor, size: int) -> Tensor:
        """Return ``x`` (B, C, T, h, w) with its past in front, and remember the end of it for the next call."""
        if self.cursor == len(self.tensors):
            self.tensors.append(x[:, :, :1].expand(-1, -1, size, -1, -1))
        x = torch.cat([self.tensors[self.cursor].to(x.dtype), x], 2)
        self.tensors[self.cursor] = x[:, :, -size:].clone()
        self.cursor += 1
        return x

    def select(self, rows: Tensor) -> VAECache:
        """Copy the cache of some rows (indices)."""
        return VAECache([tensor.index_select(0, rows) for tensor in self.tensors])

    def write(self, rows: Tensor, other: VAECache) -> None:
        """Overwrite rows (indices) by those of ``other``, which holds just these rows."""
        if not self.tensors:
            raise ValueError("cannot write rows into an empty cache; decode all rows once first")
        for i, tensor in enumerate(other.tensors):
            self.tensors[i].index_copy_(0, rows, tensor.to(self.tensors[i].dtype))


class CausalConv3d(nn.Module):
    """A 3-D convolution that sees the past only; the clip's first slot is repeated before it."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: tuple[int, int, int] = (1, 3, 3)) -> None:
        super().__init__()
        self.past = kernel[0] - 1
        padding = (0, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, padding=padding)

    def zero_init(self) -> None:
        """Make the output 0, so that a residual around it starts as the identity."""
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Tensor,  # (B, C, T, h, w)
        cache: VAECache,
    ) -> Tensor:
        if self.past:
            x = cache.take(x, self.past)
        elif cache.flat:
            return self._flat(x, self.conv.weight[:, :, 0], stride=1)
        out: Tensor = self.conv(x)
        return out

    def halve(
        self,
        x: Tensor,  # (B, C, T, 2h, 2w)
        cache: VAECache,
    ) -> Tensor:
        """Convolve ``space_to_channel(x)``; frame by frame it is not made, but its pixels are strode over."""
        if self.past or not cache.flat:
            return self.forward(space_to_channel(x), cache)
        weight = self.conv.weight[:, :, 0].unflatten(1, (-1, 2, 2))  # (out, C, 2, 2, k, k)
        return self._flat(x, weight.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3), stride=2)

    def _flat(
        self,
        x: Tensor,  # (B, C, T, h, w)
        weight: Tensor,  # (out, C, k, k)
        *,
        stride: int,
    ) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        padding = stride * int(self.conv.padding[1])
        shown = F.conv2d(frames, weight, self.conv.bias, stride=stride, padding=padding)
        return shown.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


class ChannelNorm(nn.Module):
    """RMS norm over channels at each position, so that nothing mixes over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(
        self,
        x: Tensor,  # (B, C, T, h, w)
    ) -> Tensor:
        if x.stride(1) == 1 and not torch.is_grad_enabled():  # channels lie side by side
            mean = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square_().div_(x.shape[1])
        else:
            mean = x.float().square().mean(1, keepdim=True)
        return x * torch.rsqrt(mean + 1e-6).to(x.dtype) * self.weight.to(x.dtype)[:, None, None, None]


class ResBlock(nn.Module):
    """Norm, SiLU, causal 3-D convolution, norm, SiLU, spatial convolution, residual."""

    def __init__(self, channels: int, *, time_kernel: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = CausalConv3d(channels, channels, kernel=(time_kernel, 3, 3))
        self.norm2 = ChannelNorm(channels)
        self.conv2 = CausalConv3d(channels, channels)
        nn.init.zeros_(self.conv2.conv.weight)

    def forward(
        self,
        x: Tensor,  # (B, C, T, h, w)
        cache: VAECache,
    ) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)), cache)
        out: Tensor = x + self.conv2(F.silu(self.norm2(hidden)), cache)
        return out


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
) -> Tensor:
    """Fold groups of four frames into channels; shape (B, 4C, F, h, w)."""
    x = x.unflatten(2, (-1, FRAMES_PER_LATENT))
    return x.permute(0, 1, 3, 2, 4, 5).flatten(1, 2)


def channel_to_time(
    x: Tensor,  # (B, 4C, F, h, w)
) -> Tensor:
    """Unfold channels into groups of four frames; shape (B, C, 4F, h, w)."""
    x = x.unflatten(1, (-1, FRAMES_PER_LATENT))
    return x.permute(0, 1, 3, 2, 4, 5).flatten(2, 3)


def fold(
    x: Tensor,  # (B, 3, 4F, 2^k h, 2^k w)
    halvings: int = 3,
) -> Tensor:
    """Fold patches of 4 x 2^k x 2^k into channels; (B, 12 4^k, F, h, w)."""
    for _ in range(halvings):
        x = space_to_channel(x)
    return time_to_channel(x)


def unfold(
    x: Tensor,  # (B, 12 4^k, F, h, w)
    halvings: int = 3,
) -> Tensor:
    """Unfold channels into patches of 4 x 2^k x 2^k; (B, 3, 4F, 2^k h, 2^k w)."""
    x = channel_to_time(x)
    for _ in range(halvings):
        x = channel_to_space(x)
    return x


class Encoder(nn.Module):
    """Frames to the mean and log-variance of latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        a, b, c = config.encoder_widths
        self.halvings = config.halvings
        self.stem = CausalConv3d(3 * 4 ** (self.halvings - 2), a)
        self.down1 = CausalConv3d(4 * a, b)
        self.down2 = CausalConv3d(4 * b, b, kernel=(1, 1, 1))
        self.merge = CausalConv3d(FRAMES_PER_LATENT * b, c)
        blocks = range(config.num_blocks)
        self.blocks1 = nn.ModuleList(ResBlock(a, time_kernel=1) for _ in blocks)
        self.blocks2 = nn.ModuleList(ResBlock(b, time_kernel=1) for _ in blocks)
        self.blocks3 = nn.ModuleList(ResBlock(c, time_kernel=2) for _ in blocks)
        self.norm = ChannelNorm(c)
        self.head = CausalConv3d(c, 2 * config.latent_channels)
        self.linear = CausalConv3d(config.patch_dim, config.latent_channels, kernel=(1, 1, 1))
        self.head.zero_init()

    def forward(
        self,
        x: Tensor,  # (B, 3, 4F, H, W)
        cache: VAECache,
    ) -> Tensor:
        linear = self.linear(fold(x, self.halvings), cache)
        for _ in range(self.halvings - 3):
            x = space_to_channel(x)
        x = self.stem.halve(x, cache)
        for block in self.blocks1:
            x = block(x, cache)
        x = self.down1.halve(x, cache)
        for block in self.blocks2:
            x = block(x, cache)
        x = self.merge(time_to_channel(self.down2.halve(x, cache)), cache)
        for block in self.blocks3:
            x = block(x, cache)
        mean, log_variance = self.head(F.silu(self.norm(x)), cache).chunk(2, 1)
        return torch.cat([mean + linear, log_variance], 1)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        a, b, c = config.decoder_widths
        self.halvings = config.halvings
        self.stem = CausalConv3d(config.latent_channels, c, kernel=(2, 3, 3))
        self.split = CausalConv3d(c, FRAMES_PER_LATENT * c, kernel=(1, 1, 1))
        self.up1 = CausalConv3d(c, 4 * b, kernel=(1, 1, 1))
        self.up2 = CausalConv3d(b, 4 * a, kernel=(1, 1, 1))
        blocks = range(config.num_blocks)
        self.blocks1 = nn.ModuleList(ResBlock(c, time_kernel=2) for _ in blocks)
        self.blocks2 = nn.ModuleList(ResBlock(b, time_kernel=3) for _ in blocks)
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
        linear = unfold(self.linear(z, cache), self.halvings)
        x = self.stem(z, cache)
        for block in self.blocks1:
            x = block(x, cache)
        x = channel_to_space(self.up1(channel_to_time(self.split(x, cache)), cache))
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
        patches = fold(pixels[:, 1:].transpose(1, 2), self.config.halvings).movedim(1, -1).flatten(0, -2).double()
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
        num_frames = pixels.shape[1]
        if (num_frames - 1) % FRAMES_PER_LATENT:
            raise ValueError(f"a clip has 4N + 1 frames, got {num_frames}; drop {(num_frames - 1) % 4} frames")
        first = pixels[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1)
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
        return pixels[:, FRAMES_PER_LATENT - 1 :] if fresh else pixels

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the decoder computes in."""
        return self.decoder.stem.conv.weight.dtype


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
