"""Windows of consecutive chunks, denoised together: the stages before there is a memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..base.rng import normal
from ..diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ..engine.rollout import to_device
from ..memory.bank import MemoryBank
from ..memory.context import Context, condition, context_mask
from ..models.types import Conditioning
from .material import Material
from .preview import preview_rollout


def window_loss(m: Material, generator: torch.Generator, *, causal: bool) -> Tensor:
    """Denoise ``num_chunks`` chunks after a clean latent; causal: a noise level per chunk, block-causal mask."""
    batch, num = m.batch, m.config.num_chunks
    bank, renders, happened = draw_windows(m, num, generator)
    entry = m.layout.entry_of(torch.arange(1 + num * m.chunk)).expand(batch, -1)
    levels = sample_sigmas((batch, num if causal else 1), shift=m.config.shift, generator=generator)
    levels = levels.expand(-1, num).repeat_interleave(m.chunk, 1)
    sigmas = torch.cat([torch.zeros(batch, 1), levels], 1)
    track = m.drop_labels(bank.track, generator)
    start = Context(bank.latents[:, :1], track.part(slice(1)), entry[:, :1])
    cond = condition(start, track.part(slice(1, None)), K=m.K, unit=m.world.spec.unit)
    cond = replace(cond, timesteps=torch.where(sigmas > 0, 1000 * sigmas, CONTEXT_TIMESTEP))
    mask = context_mask(entry) if causal else None
    return _flow_matching(m, bank.latents, sigmas, cond, mask, generator, renders, happened)


def _flow_matching(
    m: Material,
    latents: Tensor,
    sigmas: Tensor,
    cond: Conditioning,
    mask: Tensor | None,
    generator: torch.Generator,
    renders: Tensor | None,
    happened: Tensor,
) -> Tensor:
    """Mean squared error of the velocity on the noised latents, those with sigma > 0, of the episode."""
    device = m.device
    latents, sigmas = latents.to(device), sigmas.to(device)
    noise = normal(latents.shape, generator, device)
    noisy = add_noise(latents, noise, sigmas)
    mask = None if mask is None else mask.to(device)
    rendered = m.drawn(renders, generator)
    known = None if rendered is None else (rendered.latents, rendered.known)
    velocity = m.module(noisy, to_device(cond, device), mask=mask, render=known)
    error = (velocity - (noise - latents)).square().mean((2, 3, 4))
    weight = ((sigmas > 0) & happened.to(device)).float()
    return (error * weight).sum() / weight.sum()


def draw_windows(m: Material, num_chunks: int, generator: torch.Generator) -> tuple[MemoryBank, Tensor | None, Tensor]:
    """Draw contiguous chunk-aligned windows of 1 + num_chunks * chunk latents, and what is rendered of them.

    Where an episode is shorter, its window goes on with its last latent; the third result says what happened, (B, F)
    bool.
    """
    total = 1 + num_chunks * m.chunk
    clips = torch.randint(len(m.data), (m.batch,), generator=generator)
    offsets = ((m.data.lengths[clips] - total) // m.chunk + 1).clamp(min=1)
    if m.data.length is None:  # of one length
        starts = m.chunk * torch.randint(int(offsets.max()), (m.batch,), generator=generator)
    else:
        starts = m.chunk * (torch.rand(m.batch, generator=generator) * offsets).long()
    index = starts[:, None] + torch.arange(total)
    happened = index < m.data.lengths[clips, None]
    index = index.clamp(max=m.data.latents.shape[1] - 1)
    return m.bank(m.data, clips, index), m.renders(clips, index), happened


def preview_window(m: Material, folder: Path, step: int) -> dict[str, float]:
    """Generate held-out clips from their first latent along their own paths; compare with the truth."""
    num_latents = 1 + m.chunk * m.config.num_chunks
    return preview_rollout(m.world, m.heldout, folder, step, num_latents=num_latents, policy="recent", num_true=1)
