"""Small building blocks of the transformer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import fused
from .backend import Backend

GRASP_OCTAVES = 5
"""Periods that the way to a robot's grasp is told in, the shortest an eighth of the picture."""


def sinusoid(
    value: Tensor,  # (...)
    width: int,
) -> Tensor:
    """Encode numbers as cosines then sines of geometric frequencies; (..., width) float32."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=value.device) * (-math.log(10000.0) / half))
    angles = value.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class EmbeddingMLP(nn.Module):
    """Sinusoid to model width: linear, SiLU, linear."""

    def __init__(self, freq_dim: int, width: int, *, zero_init: bool = False) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.linear_1 = nn.Linear(freq_dim, width)
        self.linear_2 = nn.Linear(width, width)
        if zero_init:
            nn.init.zeros_(self.linear_2.weight)
            nn.init.zeros_(self.linear_2.bias)

    def forward(
        self,
        value: Tensor,  # (B, F)
    ) -> Tensor:
        hidden = sinusoid(value, self.freq_dim).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(hidden)))
        return out


class CodeEmbedding(nn.Module):
    """A few numbers to model width: linear, SiLU, linear, the last of which begins as zero."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(count, width)
        self.linear_2 = nn.Linear(width, width)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(
        self,
        code: Tensor,  # (B, F, count)
    ) -> Tensor:
        out: Tensor = self.linear_2(F.silu(self.linear_1(code.to(self.linear_1.weight.dtype))))
        return out


class PositionEmbedding(nn.Module):
    """Where in the picture a token looks: Fourier features of its centre in -1..1, through a zero-initialised layer."""

    NUM_OCTAVES = 3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 + 4 * self.NUM_OCTAVES, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, rows: int, columns: int) -> Tensor:
        """Return (rows * columns, width)."""
        weight = self.linear.weight
        features = fourier(centres(rows, columns, device=weight.device), self.NUM_OCTAVES)
        out: Tensor = self.linear(features.to(weight.dtype))
        return out


def centres(rows: int, columns: int, *, device: torch.device) -> Tensor:
    """Return where tokens' centres are in the picture, x and y in -1..1, (rows * columns, 2)."""
    y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (rows, columns))
    return torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1).flatten(0, 1)


def fourier(
    place: Tensor,  # (..., 2)
    num_octaves: int,
) -> Tensor:
    """Return places with cosines and sines of periods from 4 down, halved for each octave; (..., 2 + 4 octaves)."""
    angles = (math.pi / 2) * place[..., None] * 2.0 ** torch.arange(num_octaves, device=place.device)
    return torch.cat([place, angles.cos().flatten(-2), angles.sin().flatten(-2)], -1)


def grasp_offsets(
    grasp: Tensor,  # (B, F, 2) in the picture, -1..1
    rows: int,
    columns: int,
) -> Tensor:
    """Return the way from a robot's grasp to each token's centre, for ``CodeEmbedding``, (B, F, rows * columns, 22)."""
    return fourier(centres(rows, columns, device=grasp.device) - grasp[:, :, None].float(), GRASP_OCTAVES)


class RayEmbedding(nn.Module):
    """Where a token's rays go in space: Pluecker coordinates of four of them, through an MLP that begins as zero.

    What WorldScape's camera encoder takes in (moment and direction of each ray, relative to the coming chunk's first
    camera), at two by two points of a token.
    """

    PER_SIDE = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(6 * self.PER_SIDE**2, width)
        self.linear_2 = nn.Linear(width, width)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(
        self,
        unprojection: Tensor,  # (B, F, 4, 4) world <- picture, whose coordinates go from -1/2 to 1/2
        rows: int,
        columns: int,
    ) -> Tensor:
        """Return (B, F, rows * columns, width)."""
        side, weight = self.PER_SIDE, self.linear_1.weight
        y, x = ((torch.arange(side * n, device=weight.device) + 0.5) / (side * n) - 0.5 for n in (rows, columns))
        points = torch.stack(
            [x.expand(len(y), -1), y[:, None].expand(-1, len(x)), torch.ones(len(y), len(x)).to(x)], -1
        )
        points = points.unflatten(1, (columns, side)).unflatten(0, (rows, side)).transpose(1, 2).reshape(-1, 3)
        rays = F.normalize(points @ unprojection[..., :3, :3].float().mT, dim=-1)  # (B, F, S side^2, 3)
        moments = torch.linalg.cross(unprojection[..., None, :3, 3].float().expand_as(rays), rays)
        features = torch.cat([moments, rays], -1).unflatten(2, (rows * columns, -1)).flatten(3)
        out: Tensor = self.linear_2(F.silu(self.linear_1(features.to(weight.dtype))))
        return out


class RMSNorm(nn.Module):
    """RMS norm over the last axis, statistics in float32."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(
        self,
        x: Tensor,  # (..., D)
    ) -> Tensor:
        weight = self.weight.to(x.dtype)
        if x.requires_grad and x.device.type == "cpu" and x.dtype != torch.float64:
            return fused.rms_norm(x, weight, self.eps)
        return F.rms_norm(x, x.shape[-1:], weight, self.eps)


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, hidden)
        self.linear_2 = nn.Linear(hidden, width)

    def forward(
        self,
        x: Tensor,  # (B, F, S, D)
        backend: Backend,
    ) -> Tensor:
        out: Tensor = self.linear_2(backend.linear_gelu(self.linear_1, x))
        return out


class TextEmbedding(nn.Module):
    """A prompt's embedding to model width: linear, tanh-GELU, linear."""

    def __init__(self, text_dim: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(text_dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(
        self,
        text: Tensor,  # (B, L, text_dim)
    ) -> Tensor:
        out: Tensor = self.linear_2(F.gelu(self.linear_1(text.to(self.linear_1.weight.dtype)), approximate="tanh"))
        return out


def modulate(
    x: Tensor,  # (B, F, S, D)
    shift: Tensor,  # (B, F, D)
    scale: Tensor,  # (B, F, D)
    *,
    exact: bool = False,
) -> Tensor:
    """Layer norm without parameters, then scale and shift per latent frame (AdaLN); ``exact`` in float32."""
    if exact:
        return modulate(x.float(), shift.float(), scale.float()).to(x.dtype)
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(shift[:, :, None].to(x.dtype), normed, 1 + scale[:, :, None].to(x.dtype))
