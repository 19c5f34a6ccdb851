"""Stages ``bidirectional``, ``causal`` and ``memory``: flow matching on latents (WorldPlay 3.1, 3.3, supplement A)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..base.log import console
from ..data.dataset import LatentDataset
from ..diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ..engine.rollout import generate_chunk, to_device
from ..engine.world import World
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.context import Context, condition, context_mask, entry_of, gather, select, with_policy
from ..models.types import Conditioning
from ..models.vae import to_frames
from .loop import OptimConfig
from .plots import save_sheet


@dataclass(frozen=True, kw_only=True)
class DenoiseConfig:
    """Windows and noise of the transformer stages."""

    num_chunks: int = 4
    """Chunks per window in the stages without memory (61 frames are 4 chunks)."""
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
    forcing: float = 0.2
    """Share of steps on contiguous windows with a noise level per chunk (diffusion forcing)."""
    policies: tuple[tuple[str, float], ...] = (("worldplay", 0.7), ("recent", 0.12), ("none", 0.08), ("random", 0.1))
    """Memory policies and their shares (context dropout)."""
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
        self.K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow matching on a random window whose first latent is clean."""
        return self.window_loss(generator, causal=False)

    def window_loss(self, generator: torch.Generator, *, causal: bool) -> tuple[Tensor, dict[str, float]]:
        """Denoise ``num_chunks`` chunks after a clean latent; causal: a noise level per chunk, block-causal mask."""
        batch, num = self.optim.batch, self.config.num_chunks
        bank = self._windows(batch, num, generator)
        entry = entry_of(torch.arange(1 + num * self.chunk), self.chunk).expand(batch, -1)
        levels = sample_sigmas((batch, num if causal else 1), shift=self.config.shift, generator=generator)
        levels = levels.expand(-1, num).repeat_interleave(self.chunk, 1)
        sigmas = torch.cat([torch.zeros(batch, 1), levels], 1)
        start = Context(bank.latents[:, :1], bank.c2w[:, :1], bank.labels[:, :1], entry[:, :1])
        cond = condition(start, bank.c2w[:, 1:], bank.labels[:, 1:], K=self.K, unit=self.world.spec.unit)
        timesteps = torch.where(sigmas > 0, 1000 * sigmas, CONTEXT_TIMESTEP)
        cond = replace(cond, timesteps=timesteps, labels=self._drop_labels(cond.labels, generator))
        mask = context_mask(entry) if causal else None
        loss = self._flow_matching(bank.latents, sigmas, cond, mask, generator)
        return loss, {}

    def _flow_matching(
        self, latents: Tensor, sigmas: Tensor, cond: Conditioning, mask: Tensor | None, generator: torch.Generator,
        weight: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Mean squared error of the velocity on noised latents (those with ``weight``, default sigma > 0)."""
        device = self.module.patch_embedding.weight.device
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents, noise, sigmas).to(device)
        mask = None if mask is None else mask.to(device)
        velocity = self.module(noisy, to_device(cond, device), mask=mask)
        error = (velocity - (noise - latents).to(device)).square().mean((2, 3, 4))
        weight = ((sigmas > 0) if weight is None else weight).to(device).float()
        return (error * weight).sum() / weight.sum()

    def _windows(self, batch: int, num_chunks: int, generator: torch.Generator) -> MemoryBank:
        """Draw contiguous chunk-aligned windows of 1 + num_chunks * chunk latents."""
        total = 1 + num_chunks * self.chunk
        clips = torch.randint(len(self.data), (batch,), generator=generator)
        offsets = (self.data.latents.shape[1] - total) // self.chunk + 1
        starts = self.chunk * torch.randint(offsets, (batch,), generator=generator)
        index = starts[:, None] + torch.arange(total)
        return self._bank(self.data, clips, index)

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
        total = self.chunk * self.config.num_chunks + 1
        return self._preview_rollout(folder, step, total, "recent")

    def _preview_rollout(self, folder: Path, step: int, total: int, policy: str, history: int = 1) -> dict[str, float]:
        """Roll out ``total`` latents of 16 held-out clips after ``history`` true ones; save frames and return PSNR."""
        data, count = self.heldout, min(16, len(self.heldout))
        truth = self._bank(data, torch.arange(count), torch.arange(total).expand(count, -1))
        bank = MemoryBank(truth.latents[:, :history], truth.c2w[:, :history], truth.labels[:, :history],
                          torch.full((count,), history))  # fmt: skip
        config, rows = with_policy(self.world.config.memory, policy), torch.arange(count)
        device = self.module.patch_embedding.weight.device
        for first in range(history, total, self.chunk):
            c2w, labels = truth.c2w[:, first : first + self.chunk], truth.labels[:, first : first + self.chunk]
            chosen = select(bank, c2w, config, chunk_latents=self.chunk)
            noise = torch.randn(truth.latents[:, : self.chunk].shape, generator=torch.Generator().manual_seed(first))
            latents = generate_chunk(
                self.module, gather(bank, chosen.index, chunk_latents=self.chunk), c2w=c2w, labels=labels,
                noise=noise.to(device), K=self.K, unit=self.world.spec.unit, sampler=self.world.config.sampler,
            )  # fmt: skip
            bank.append(rows, latents, c2w, labels)
        return self._compare(folder, step, bank.latents[:, :total], truth.latents, policy, history)

    def _compare(
        self, folder: Path, step: int, made: Tensor, truth: Tensor, policy: str, history: int
    ) -> dict[str, float]:
        vae = self.world.vae.to(self.module.patch_embedding.weight.device)
        made, truth = (vae.decode(x.to(vae.latent_mean.device)).clamp(-1, 1) for x in (made, truth))
        new = slice(4 * history - 3, None)
        mse = (made - truth)[:, new].square().mean((2, 3, 4))
        contrast = made[:, new].std((2, 3, 4)) / truth[:, new].std((2, 3, 4))
        skip = max(1, made.shape[1] // 16)
        rows = [to_frames(x[i, ::skip]).cpu() for i in range(min(6, len(made))) for x in (truth, made)]
        save_sheet(folder / "samples" / f"{step:06d}-{policy}.png", rows)
        psnr = 10 * torch.log10(4 / mse)
        return {f"psnr_{policy}": float(psnr.mean()), f"contrast_{policy}": float(contrast.mean())}


class CausalStage(BidirectionalStage):
    """Block-causal attention, a noise level per chunk: the autoregressive action model of stage one."""

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Diffusion forcing on a random window."""
        return self.window_loss(generator, causal=True)


class MemoryStage(CausalStage):
    """Stage two: chunks that need memory, with their reconstituted context."""

    def __init__(
        self, world: World, config: DenoiseConfig, optim: OptimConfig, *, data: LatentDataset,
        heldout: LatentDataset | None,
    ) -> None:  # fmt: skip
        super().__init__(world, config, optim, data=data, heldout=heldout)
        self.needed, self.every = data.chunks(chunk_latents=self.chunk, need=config.need)
        console.print(f"{len(self.needed)} of {len(self.every)} chunks need memory")
        if not len(self.needed):
            console.print("no chunk needs memory (or the recording has no depth): sampling from all of them")
            self.needed = self.every

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise one chunk per sample, ``draws`` times, against its context; now and then diffusion forcing."""
        if float(torch.rand(1, generator=generator)) < self.config.forcing:
            return self.window_loss(generator, causal=True)
        bank, target = self._targets(generator)
        context = self._noised(self._context(bank, target, generator), generator)
        return self._draws_loss(context, target, generator), {}

    def _targets(self, generator: torch.Generator) -> tuple[MemoryBank, Context]:
        """Draw (clip, entry) pairs; return the histories before them and the chunks themselves."""
        batch = self.optim.batch
        need = torch.rand(batch, generator=generator) < self.config.necessary
        a = self.needed[torch.randint(len(self.needed), (batch,), generator=generator)]
        b = self.every[torch.randint(len(self.every), (batch,), generator=generator)]
        clips, entries = torch.where(need[:, None], a, b).unbind(1)
        first = self.chunk * (entries - 1) + 1
        index = first[:, None] + torch.arange(self.chunk)
        rows = clips[:, None]
        target = Context(self.data.latents[rows, index].float(), self.data.c2w[rows, index],
                         self.data.labels[rows, index], entries[:, None].expand(-1, self.chunk))  # fmt: skip
        history = self._bank(self.data, clips, torch.arange(int(first.max())).expand(batch, -1))
        return replace_length(history, first), target

    def _context(self, bank: MemoryBank, target: Context, generator: torch.Generator) -> Context:
        """Reconstitute each row's context under a policy drawn for it (context dropout)."""
        names, shares = zip(*self.config.policies, strict=True)
        pick = torch.multinomial(torch.tensor(shares), len(bank.length), replacement=True, generator=generator)
        seeds = torch.randint(2**31, (len(bank.length),), generator=generator).tolist()
        index = None
        for i, name in enumerate(names):
            config = with_policy(self.world.config.memory, name)
            if not bool((pick == i).any()):
                continue
            found = select(bank, target.c2w, config, chunk_latents=self.chunk, seeds=seeds).index
            index = found if index is None else torch.where((pick == i)[:, None], found, index)
        assert index is not None
        return gather(bank, index, chunk_latents=self.chunk)

    def _noised(self, context: Context, generator: torch.Generator) -> Context:
        """Noise each context chunk at its own level, or leave a sample's context clean."""
        low, high = self.config.context_noise
        batch, slots = context.entry.shape
        levels = torch.rand(batch, slots, generator=generator)
        # Latents of one entry share the level drawn for the entry's first slot.
        first = (context.entry[:, :, None] == context.entry[:, None, :]).float().argmax(2)
        sigmas = low + (high - low) * levels.gather(1, first)
        clean = torch.rand(batch, 1, generator=generator) < self.config.clean_context
        sigmas = torch.where(clean, 0.0, sigmas)
        noise = torch.randn(context.latents.shape, generator=generator)
        timesteps = torch.where(clean, CONTEXT_TIMESTEP, 1000 * sigmas)
        return replace(context, latents=add_noise(context.latents, noise, sigmas), timesteps=timesteps)

    def _draws_loss(self, context: Context, target: Context, generator: torch.Generator) -> Tensor:
        """Flow matching of M noise draws of the chunk, each seeing the context and itself, in one sequence."""
        draws, chunk, (batch, slots) = self.config.draws, self.chunk, context.entry.shape
        cond = condition(context, target.c2w, target.labels, K=self.K, unit=self.world.spec.unit)
        order = torch.cat([torch.arange(slots), slots + torch.arange(chunk).repeat(draws)])
        cond = Conditioning(*(getattr(cond, name)[:, order] for name in cond.__dataclass_fields__))
        levels = sample_sigmas((batch, draws), shift=self.config.shift, generator=generator)
        sigmas = torch.cat([torch.zeros(batch, slots), levels.repeat_interleave(chunk, 1)], 1)
        timesteps = torch.where(sigmas > 0, 1000 * sigmas, cond.timesteps)
        cond = replace(cond, timesteps=timesteps, labels=self._drop_labels(cond.labels, generator))
        latents = torch.cat([context.latents, target.latents.repeat(1, draws, 1, 1, 1)], 1)
        return self._flow_matching(latents, sigmas, cond, draws_mask(context, chunk, draws), generator)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under each memory policy."""
        total = self.heldout.latents.shape[1]
        history = 1 + (total - 1) // 2 // self.chunk * self.chunk
        result: dict[str, float] = {}
        for policy in ("worldplay", "recent", "none"):
            result |= self._preview_rollout(folder, step, total, policy, history)
        return result


def replace_length(bank: MemoryBank, length: Tensor) -> MemoryBank:
    """Return the bank with other row lengths (B,)."""
    return MemoryBank(bank.latents, bank.c2w, bank.labels, length)


def draws_mask(context: Context, chunk_latents: int, draws: int) -> Tensor:
    """Mask of [context | draw 1 | ... | draw M]: context block-causal, each draw sees the context and itself."""
    batch, slots = context.entry.shape
    group = torch.arange(draws).repeat_interleave(chunk_latents)
    own = (group[:, None] == group[None, :]).expand(batch, -1, -1)
    sees_context = context.valid[:, None].expand(-1, len(group), -1)
    top = torch.cat([context_mask(context.entry), torch.zeros(batch, slots, len(group), dtype=torch.bool)], 2)
    return torch.cat([top, torch.cat([sees_context, own], 2)], 1)
