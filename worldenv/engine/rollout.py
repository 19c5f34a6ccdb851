"""The one rollout function: environments, training and evaluation all generate chunks here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.sampler import sample_chunk
from ..diffusion.schedule import CONTEXT_TIMESTEP, SamplerConfig
from ..memory.context import Context, chunk_mask, condition, context_mask
from ..models.dit import WorldDiT
from ..models.kv_cache import Cache, GradientCache, KVCache
from ..models.types import Conditioning, TextCache


def generate_chunk(
    dit: WorldDiT,
    context: Context,
    *,
    c2w: Tensor,  # (B, F, 4, 4) commanded
    labels: Tensor,  # (B, F)
    noise: Tensor,  # (B, F, C, h, w)
    K: Tensor,  # (3, 3) normalised
    unit: float,
    sampler: SamplerConfig,
    cache: Cache | None = None,
    renoise: Callable[[], Tensor] | None = None,
    text: TextCache | None = None,
    known: Known | None = None,
) -> Tensor:
    """Denoise the next chunk of latents given its context (WorldPlay, Algorithm 2); (B, F, C, h, w) float32.

    The context is encoded once into ``cache`` (made here if not given), then every denoising step attends to it.
    Latents that are ``known`` (a start view inside its chunk) are attended to like context and stay as they are.
    Gradients flow if the caller enables them.
    """
    device, num_slots, num_latents = noise.device, context.latents.shape[1], noise.shape[1]
    exact = dit.config.numerics == "reference"
    whole = condition(context, c2w, labels, K=K, unit=unit, cameras=dit.dtype if exact else torch.float64)
    past = to_device(whole.select(0, num_slots), device)
    now = to_device(whole.select(num_slots, num_slots + num_latents), device)
    if cache is None:
        cache = GradientCache() if torch.is_grad_enabled() else new_cache(dit, noise, num_slots)
    context_sees = context_mask(context.entry, causal=dit.config.causal_context).to(device)
    dit.prefill(context.latents.to(device), past, mask=context_sees, cache=cache, text=text)
    mask = chunk_mask(context.valid, num_latents).to(device)

    def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
        if known is not None:
            x, timesteps = known.fill(x), timesteps.masked_fill(known.mask, CONTEXT_TIMESTEP)
        step = Conditioning(timesteps, now.labels, now.positions, now.projection, now.unprojection)
        return dit(x, step, mask=mask, cache=cache, text=text)

    latents = sample_chunk(velocity, noise.to(dit.dtype) if exact else noise, sampler, renoise=renoise).float()
    return latents if known is None else known.fill(latents)


@dataclass(frozen=True)
class Known:
    """Latents of a chunk that are given."""

    mask: Tensor  # (B, F) bool
    latents: Tensor  # (B, F, C, h, w), read where the mask is set

    def fill(self, x: Tensor) -> Tensor:
        """Put the given latents into ``x``, (B, F, C, h, w)."""
        return torch.where(self.mask[..., None, None, None], self.latents.to(x.dtype), x)


def new_cache(
    dit: WorldDiT,
    noise: Tensor,  # (B, F, C, h, w)
    num_slots: int,
) -> KVCache:
    """Allocate keys and values for [context | chunk]."""
    config = dit.config
    return KVCache(
        num_layers=config.num_layers,
        batch=noise.shape[0],
        num_heads=config.num_heads * (2 if config.camera_branch else 1),
        num_tokens=(num_slots + noise.shape[1]) * dit.tokens(noise),
        head_dim=config.head_dim,
        dtype=dit.dtype,
        device=noise.device,
    )


def to_device(cond: Conditioning, device: torch.device) -> Conditioning:
    """Move conditioning to a device."""
    return Conditioning(*(getattr(cond, name).to(device) for name in cond.__dataclass_fields__))
