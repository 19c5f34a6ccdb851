"""Windows of consecutive chunks, denoised together: the stages before there is a memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..base.rng import normal
from ..diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ..dynamics.signals import POSE_VIDEO
from ..engine.rollout import Rendered, beside, to_device
from ..memory.bank import MemoryBank
from ..memory.context import Context, condition, context_mask
from ..models.types import Conditioning
from .material import Material
from .preview import preview_rollout


def window_loss(m: Material, generator: torch.Generator, *, causal: bool) -> Tensor:
    """Denoise ``num_chunks`` chunks after a clean latent; causal: a noise level per chunk, block-causal mask."""
    batch, num = m.batch, m.config.num_chunks
    drawn = draw_windows(m, num, generator)
    bank = drawn.bank
    entry = m.layout.entry_of(torch.arange(1 + num * m.chunk)).expand(batch, -1)
    levels = sample_sigmas((batch, num if causal else 1), shift=m.config.shift, generator=generator)
    levels = levels.expand(-1, num).repeat_interleave(m.chunk, 1)
    sigmas = torch.cat([torch.zeros(batch, 1), levels], 1)
    track = m.drop_labels(bank.track, generator)
    start = Context(bank.latents[:, :1], track.part(slice(1)), entry[:, :1])
    cond = condition(start, track.part(slice(1, None)), K=m.K, unit=m.world.spec.unit, grasp=m.world.dit.grasp)
    cond = replace(cond, timesteps=torch.where(sigmas > 0, 1000 * sigmas, CONTEXT_TIMESTEP))
    mask = context_mask(entry, reach=m.reach) if causal else None
    velocity = partial(_velocity, m, cond=cond, mask=mask, entry=entry, drawn=track.get(POSE_VIDEO))
    return _flow_matching(m, drawn, sigmas, velocity, generator)


def _velocity(
    m: Material,
    noisy: Tensor,  # (B, F, C, h, w)
    rendered: Rendered | None,
    *,
    cond: Conditioning,
    mask: Tensor | None,  # (B, F, F) bool
    entry: Tensor,  # (B, F)
    drawn: Tensor | None,  # (B, F, C, h, w): the pose video
) -> Tensor:
    """Evaluate the network on windows; where it takes in a pose video, that stands behind, and chunks see their own."""
    device, known = m.device, None if rendered is None else (rendered.latents, rendered.known)
    if drawn is None:
        seen = None if mask is None else mask.to(device)
        return m.module(noisy, to_device(cond, device), mask=seen, render=known)
    every, count = torch.ones(len(entry), entry.shape[1], entry.shape[1], dtype=torch.bool), entry.shape[1] - 1
    clean = replace(cond, timesteps=torch.full_like(cond.timesteps, CONTEXT_TIMESTEP)).select(1, 1 + count)
    own = every[:, :, 1:] if mask is None else entry[:, :, None] == entry[:, None, 1:]
    alone = torch.cat([torch.zeros(count, 1 + count), torch.eye(count)], 1).bool().expand(len(entry), -1, -1)
    sees = torch.cat([torch.cat([every if mask is None else mask, own], 2), alone], 1)
    whole = torch.cat([noisy, drawn[:, 1:].to(noisy)], 1)
    return m.module(whole, to_device(beside(cond, clean), device), mask=sees.to(device))[:, : 1 + count]


def _flow_matching(
    m: Material,
    drawn: Windows,
    sigmas: Tensor,  # (B, F)
    velocity: Callable[[Tensor, Rendered | None], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the velocity on the noised latents, those with sigma > 0, of the episode."""
    device = m.device
    latents, sigmas = drawn.bank.latents.to(device), sigmas.to(device)
    noise = normal(latents.shape, generator, device)
    made = velocity(add_noise(latents, noise, sigmas), m.drawn(drawn.renders, generator))
    squares = (made - (noise - latents)).square()
    error = (squares if drawn.weight is None else squares * drawn.weight.to(device)).mean((2, 3, 4))
    there = ((sigmas > 0) & drawn.happened.to(device)).float()
    return (error * there).sum() / there.sum()


@dataclass(frozen=True)
class Windows:
    """Contiguous chunk-aligned windows of clips, (B, F) latents."""

    bank: MemoryBank
    renders: Tensor | None  # (B, R, F, C + 1, h, w): what is rendered of them
    weight: Tensor | None  # (B, F, 1, h, w): how much an error of each cell counts
    happened: Tensor  # (B, F) bool: what lies within the episode; behind it its last latent is repeated


def draw_windows(m: Material, num_chunks: int, generator: torch.Generator) -> Windows:
    """Draw windows of 1 + num_chunks * chunk latents."""
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
    return Windows(m.bank(m.data, clips, index), m.renders(clips, index), m.weight(clips, index), happened)


def preview_window(m: Material, folder: Path, step: int) -> dict[str, float]:
    """Generate held-out clips from their first latent along their own paths; compare with the truth."""
    num_latents = 1 + m.chunk * m.config.num_chunks
    return preview_rollout(m.world, m.heldout, folder, step, num_latents=num_latents, policy="recent", num_true=1)
