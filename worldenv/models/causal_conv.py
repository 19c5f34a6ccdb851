"""Convolutions that look back in time only, and what they look back at."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patches import space_to_channel


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
