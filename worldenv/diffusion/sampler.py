"""Few-step denoising: of one chunk, or of a window of chunks at increasing noise levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .schedule import SamplerConfig, add_noise, inference_sigmas, predict_x0

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

    Raises:
        ValueError: if the sampler is stochastic and nothing draws its noise.
    """
    if config.stochastic and renoise is None:
        raise ValueError("a stochastic sampler re-noises between steps, and renoise is None; pass what draws its noise")
    x, before, step_before = noise, None, 0.0
    for step_index, (now, after) in enumerate(pairwise(inference_sigmas(config).tolist())):
        timesteps = torch.full(x.shape[:2], 1000 * now, device=x.device)
        if exit_step is not None:
            if step_index == exit_step:
                torch.clear_autocast_cache()  # weights that were converted without gradients would be used again
                return x - now * velocity(x, timesteps)
            with torch.no_grad():
                v = velocity(x, timesteps)
        else:
            v = velocity(x, timesteps)
        if config.stochastic:
            assert renoise is not None
            x0 = x - now * v
            x = (1 - after) * x0 + after * renoise() if after > 0 else x0
            continue
        step, slope = after - now, v.to(x.dtype)
        if config.order == 2 and before is not None:
            slope = slope + step / (2 * step_before) * (slope - before)
        before, step_before = v.to(x.dtype), step
        x = x + step * slope
    return x


def roll_window(
    velocity: VelocityFn,
    x: Tensor,  # (B, (n - 1) F, C, h, w): chunks on their way, the cleanest first, n <= config.num_steps
    config: SamplerConfig,
    draw: Callable[[int], Tensor],  # so many chunks of fresh noise, (B, chunks F, C, h, w)
) -> tuple[Tensor, Tensor]:
    """Take one pass of a rolling window: push a chunk of noise, then lower all n chunks by one level together.

    WorldScape, "Causal distillation"; the sampler of Rolling Forcing (arXiv 2509.25161), which names the same window.

    Returns:
        The predicted x0 of all chunks, and the chunks re-noised to their next levels, (B, n F, C, h, w) each. In a full
        window, n = ``num_steps``, the front chunk has come to level 0: in both it is clean, and the next one is behind.
    """
    noise = draw(1)
    x, num_latents = torch.cat([x, noise], 1), noise.shape[1]
    num_chunks = x.shape[1] // num_latents
    levels = inference_sigmas(config)[: num_chunks + 1].flip(0).repeat_interleave(num_latents).to(x.device)
    after, now = levels[:-num_latents].expand(len(x), -1), levels[num_latents:].expand(len(x), -1)
    x0 = predict_x0(x, velocity(x, (1000 * now).float()), now)
    clean = num_latents * int(num_chunks == config.num_steps)
    noise = torch.cat([x0[:, :clean], draw(num_chunks - int(clean > 0))], 1)  # at level 0 nothing is mixed in
    return x0, add_noise(x0, noise, after)
