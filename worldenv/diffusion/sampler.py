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
    exit_step: int | None = None,
) -> Tensor:
    """Denoise from pure noise to clean latents, (B, F, C, h, w).

    Steps along the probability-flow ODE, Euler's or (``config.order`` 2) two-step Adams-Bashforth's, or, with
    ``config.stochastic``, x0 predictions re-noised by ``renoise()`` between steps (the sampler that distilled students
    are trained with). With ``exit_step`` the x0 predicted at that step is the result, and gradients flow through that
    one evaluation only: a student's self-rollout (WorldPlay, Algorithm 1).
    """
    x, before, step_before = noise, None, 0.0
    for step_index, (now, after) in enumerate(pairwise(inference_sigmas(config))):
        timesteps = torch.full(x.shape[:2], 1000 * float(now), device=x.device)
        if exit_step is not None:
            if step_index == exit_step:
                torch.clear_autocast_cache()  # weights that were converted without gradients would be used again
                return x - float(now) * velocity(x, timesteps)
            with torch.no_grad():
                v = velocity(x, timesteps)
        else:
            v = velocity(x, timesteps)
        if config.stochastic and renoise is not None:
            x0 = x - float(now) * v
            x = (1 - float(after)) * x0 + float(after) * renoise() if after > 0 else x0
            continue
        step, slope = float(after - now), v.to(x.dtype)
        if config.order == 2 and before is not None:
            slope = slope + step / (2 * step_before) * (slope - before)
        before, step_before = v.to(x.dtype), step
        x = x + step * slope
    return x
