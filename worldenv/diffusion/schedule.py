"""Noise levels of flow matching.

``x_sigma = (1 - sigma) x0 + sigma noise``; the network predicts ``velocity = noise - x0`` (the paper's equation 1
writes the opposite sign). ``timesteps = 1000 sigma``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CONTEXT_TIMESTEP = 14.0
"""The label that clean context carries: WorldPlay's stabilisation level 15, minus 1, of 1000."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How a chunk is denoised."""

    num_steps: int = 4
    """Network evaluations per chunk."""
    shift: float = 2.0
    """Moves the levels towards noise: sigma' = s sigma / (1 + (s - 1) sigma)."""
    order: int = 1
    """1 is Euler; 2 also uses the velocity of the step before (Adams-Bashforth), sharper at the same cost."""
    stochastic: bool = False
    """Re-noise the predicted x0 with fresh noise between steps instead of following the ODE."""
    noise_horizon: int = 0
    """Latents whose noise is drawn at reset, in one piece (WorldPlay's release draws 241); later ones per chunk."""
    rolling: bool = False
    """Denoise ``num_steps`` chunks at as many levels together and finish one per evaluation (WorldScape), instead of
    one chunk in ``num_steps`` evaluations."""
    lookahead_policy: Literal["hold", "reset"] = "hold"
    """``rolling`` begins chunks before their action is known, as if the newest one went on. When another comes,
    ``hold`` tells it to the chunks on their way as they are; ``reset`` begins them anew, in ``num_steps`` evaluations.
    """

    def __post_init__(self) -> None:
        for name, fits, says in (
            ("num_steps", self.num_steps >= 1, "1 or more"),
            ("shift", 0 < self.shift < math.inf, "positive"),
            ("noise_horizon", self.noise_horizon >= 0, "0 or more"),
        ):
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {says}")
        if self.order not in (1, 2):
            raise ValueError(f"order={self.order}; choose 1 (Euler) or 2 (Adams-Bashforth)")
        if self.stochastic and self.order != 1:
            raise ValueError("stochastic sampling re-noises after every step; it has order=1")
        if self.rolling and (not self.stochastic or self.noise_horizon):
            raise ValueError("a rolling window re-noises after every step; it has stochastic=true, noise_horizon=0")


def shift_sigmas(
    sigmas: Tensor,  # (...)
    shift: float,
) -> Tensor:
    """Warp noise levels towards noise for shift > 1; 0 and 1 stay."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def inference_sigmas(config: SamplerConfig) -> Tensor:
    """Return the num_steps + 1 levels from 1 to 0 (float64)."""
    return shift_sigmas(torch.linspace(1, 0, config.num_steps + 1, dtype=torch.float64), config.shift)


def sample_sigmas(shape: tuple[int, ...], *, shift: float, generator: torch.Generator) -> Tensor:
    """Draw training levels: logit-normal (0, 1), then shifted."""
    return shift_sigmas(torch.sigmoid(torch.randn(shape, generator=generator)), shift)


def add_noise(
    x0: Tensor,  # (B, F, C, h, w)
    noise: Tensor,  # (B, F, C, h, w)
    sigmas: Tensor,  # (B, F)
) -> Tensor:
    """Interpolate between data and noise; shape (B, F, C, h, w)."""
    level = sigmas[..., None, None, None].to(x0.dtype)
    return (1 - level) * x0 + level * noise


def predict_x0(
    x: Tensor,  # (B, F, C, h, w) at ``sigmas``
    velocity: Tensor,  # (B, F, C, h, w)
    sigmas: Tensor,  # (B, F)
) -> Tensor:
    """Recover clean latents from a velocity; shape (B, F, C, h, w)."""
    return x - sigmas[..., None, None, None].to(x.dtype) * velocity
