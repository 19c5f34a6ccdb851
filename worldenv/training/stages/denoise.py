"""Stages ``bidirectional`` and ``causal``: flow matching on windows of latents (WorldPlay 3.1, supplement A)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...data.dataset import LatentDataset
from ...diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ...engine.rollout import Rendered, to_device
from ...geometry.camera import normalise_intrinsics
from ...memory.bank import MemoryBank
from ...memory.config import Layout
from ...memory.context import Context, condition, context_mask
from ...models.types import Conditioning
from ...world.world import World
from ..loop.trainer import OptimConfig
from ..preview import preview_rollout
from ..renders import drawn


@dataclass(frozen=True, kw_only=True)
class DenoiseConfig:
    """Windows and noise of the transformer stages."""

    num_chunks: int = 4
    """Chunks per window in the stages without memory, and that a teacher denoises jointly (61 frames are 4 chunks)."""
    shift: float = 2.0
    """Shift of the training noise levels; grows with the number of tokens."""
    draws: int = 4
    """Noise draws of a chunk against one encoding of its context (``memory``)."""
    context_noise: tuple[float, float] = (0.016, 0.3)
    """Noise levels of context chunks (``memory``), uniform; the reference uses 0.016 to 0.5."""
    clean_context: float = 0.25
    """Share of samples whose context is clean, labelled as at inference."""
    necessary: float = 0.8
    """Share of samples whose chunk needs memory."""
    need: float = 0.15
    """A chunk needs memory if this share of its surface was seen before the temporal window and not in it."""
    cached: float = 0.0
    """Share of steps on whole clips, each chunk against the recorded keys and values of its past, as ``worldscape``
    memory keeps them (``memory``)."""
    single: float = 0.0
    """The same in chunks of one latent, so that one world can also be stepped latent by latent."""
    forcing: float = 0.2
    """Share of steps on contiguous windows with a noise level per chunk (diffusion forcing)."""
    policies: tuple[tuple[str, float], ...] = (("worldplay", 0.7), ("recent", 0.12), ("none", 0.08), ("random", 0.1))
    """Memory policies and their shares (context dropout)."""
    teacher_memory: Literal["aligned", "per_latent"] = "aligned"
    """Whether a joint teacher sees what its chunks see, or the single latents that its segment overlaps with most: the
    misaligned context of WorldPlay's figure 8a."""
    render_dropout: float = 0.18
    """Share of samples to which rendered memory shows nothing, where the transformer takes it in."""
    label_dropout: float = 0.1
    """Share of samples whose key labels are replaced by 0."""


class BidirectionalStage:
    """Full attention over a window, one noise level: the action model of stage one."""

    def __init__(
        self, world: World, config: DenoiseConfig, optim: OptimConfig, *, data: LatentDataset,
        heldout: LatentDataset | None,
    ) -> None:  # fmt: skip
        self.world, self.module, self.config, self.optim = world, world.dit, config, optim
        self.data, self.heldout = data, data if heldout is None else heldout
        spec = world.spec
        self.chunk = spec.chunk_latents
        self.layout = Layout(self.chunk)
        self.K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow matching on a random window whose first latent is clean."""
        return self.window_loss(generator, causal=False)

    def window_loss(self, generator: torch.Generator, *, causal: bool) -> tuple[Tensor, dict[str, float]]:
        """Denoise ``num_chunks`` chunks after a clean latent; causal: a noise level per chunk, block-causal mask."""
        batch, num = self.optim.batch, self.config.num_chunks
        bank, renders = self._windows(batch, num, generator)
        entry = self.layout.entry_of(torch.arange(1 + num * self.chunk)).expand(batch, -1)
        levels = sample_sigmas((batch, num if causal else 1), shift=self.config.shift, generator=generator)
        levels = levels.expand(-1, num).repeat_interleave(self.chunk, 1)
        sigmas = torch.cat([torch.zeros(batch, 1), levels], 1)
        start = Context(bank.latents[:, :1], bank.c2w[:, :1], bank.labels[:, :1], entry[:, :1])
        cond = condition(start, bank.c2w[:, 1:], bank.labels[:, 1:], K=self.K, unit=self.world.spec.unit)
        timesteps = torch.where(sigmas > 0, 1000 * sigmas, CONTEXT_TIMESTEP)
        cond = replace(cond, timesteps=timesteps, labels=self._drop_labels(cond.labels, generator))
        mask = context_mask(entry) if causal else None
        loss = self._flow_matching(bank.latents, sigmas, cond, mask, generator, renders)
        return loss, {}

    def _flow_matching(
        self, latents: Tensor, sigmas: Tensor, cond: Conditioning, mask: Tensor | None, generator: torch.Generator,
        renders: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Mean squared error of the velocity on the noised latents, those with sigma > 0."""
        device = self.module.patch_embedding.weight.device
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents, noise, sigmas).to(device)
        mask = None if mask is None else mask.to(device)
        rendered = self._drawn(renders, generator)
        known = None if rendered is None else (rendered.latents, rendered.known)
        velocity = self.module(noisy, to_device(cond, device), mask=mask, render=known)
        error = (velocity - (noise - latents).to(device)).square().mean((2, 3, 4))
        weight = (sigmas > 0).to(device).float()
        return (error * weight).sum() / weight.sum()

    def _drawn(self, renders: Tensor | None, generator: torch.Generator) -> Rendered | None:
        """Draw what rendered memory shows of latents, (B, R, F, C + 1, h, w), if the transformer takes it in."""
        if renders is None or not self.module.config.render_input:
            return None
        return drawn(renders, dropout=self.config.render_dropout, generator=generator).to(
            self.module.patch_embedding.weight.device
        )

    def _windows(self, batch: int, num_chunks: int, generator: torch.Generator) -> tuple[MemoryBank, Tensor | None]:
        """Draw contiguous chunk-aligned windows of 1 + num_chunks * chunk latents, and what is rendered of them."""
        total = 1 + num_chunks * self.chunk
        clips = torch.randint(len(self.data), (batch,), generator=generator)
        offsets = (self.data.latents.shape[1] - total) // self.chunk + 1
        starts = self.chunk * torch.randint(offsets, (batch,), generator=generator)
        index = starts[:, None] + torch.arange(total)
        return self._bank(self.data, clips, index), self._renders(clips, index)

    def _renders(self, clips: Tensor, index: Tensor) -> Tensor | None:
        """Fetch what is rendered of latents ``index`` (B, F) of some clips, (B, R, F, C + 1, h, w)."""
        renders = self.data.renders
        return None if renders is None else renders[clips[:, None], :, index].transpose(1, 2)

    @staticmethod
    def _bank(data: LatentDataset, clips: Tensor, index: Tensor) -> MemoryBank:
        rows = clips[:, None]
        length = torch.full((len(clips),), index.shape[1])
        return MemoryBank(data.latents[rows, index].float(), data.c2w[rows, index], data.labels[rows, index], length)

    def _drop_labels(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        keep = torch.rand(len(labels), 1, generator=generator) >= self.config.label_dropout
        return labels * keep

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Generate held-out clips from their first latent along their own paths; compare with the truth."""
        num_latents = 1 + self.chunk * self.config.num_chunks
        return preview_rollout(
            self.world, self.heldout, folder, step, num_latents=num_latents, policy="recent", num_true=1
        )


class CausalStage(BidirectionalStage):
    """Block-causal attention, a noise level per chunk: the autoregressive action model of stage one."""

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Diffusion forcing on a random window."""
        return self.window_loss(generator, causal=True)
