"""Few-step denoising of one chunk."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .schedule import SamplerConfig, inference_sigmas

VelocityFn = Callable[[Tensor, Tensor], Tensor]
"""Maps x (B, F, C, h, w) and timesteps (B, F) to the velocity."""


def sample_chunk(
    velocity: VelocityFn,
    noise: Tensor,  # (B, F, C, h, w)
    config: SamplerConfig,
    *,
    renoise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Denoise from pure noise to clean latents, (B, F, C, h, w).

    Euler steps along the probability-flow ODE, or, with ``config.stochastic``, x0 predictions re-noised by
    ``renoise()`` between steps (the sampler that distilled students are trained with).
    """
    sigmas = inference_sigmas(config)
    x = noise
    for now, after in pairwise(sigmas):
        timesteps = torch.full(x.shape[:2], 1000 * float(now), device=x.device)
        v = velocity(x, timesteps)
        if config.stochastic and renoise is not None:
            x0 = x - float(now) * v
            x = (1 - float(after)) * x0 + float(after) * renoise() if after > 0 else x0
        else:
            x = x + float(after - now) * v.to(x.dtype)
    return x
