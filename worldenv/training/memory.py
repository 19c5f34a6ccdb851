"""Stage ``memory``: chunks that need memory, with their reconstituted context (WorldPlay 3.3, supplement A)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..base.log import console
from ..data.dataset import LatentDataset
from ..diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ..engine.rollout import to_device
from ..engine.world import World
from ..memory.bank import MemoryBank
from ..memory.context import Context, chunk_mask, condition, context_mask, gather, select, with_policy
from ..models.kv_cache import GradientCache
from .denoise import CausalStage, DenoiseConfig
from .loop import OptimConfig
from .preview import preview_rollout


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
        return replace(history, length=first), target

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
        """Flow matching of M noise draws of the chunk against one encoding of its context, as at inference."""
        draws, (batch, slots) = self.config.draws, context.entry.shape
        device = self.module.patch_embedding.weight.device
        cond = condition(context, target.c2w, target.labels, K=self.K, unit=self.world.spec.unit)
        cond = to_device(replace(cond, labels=self._drop_labels(cond.labels, generator)), device)
        cache = GradientCache()
        mask = context_mask(context.entry).to(device)
        self.module.prefill(context.latents.to(device), cond.select(0, slots), mask=mask, cache=cache)
        cache.repeat(draws)
        sigmas = sample_sigmas((batch * draws, 1), shift=self.config.shift, generator=generator)
        now = cond.select(slots, slots + self.chunk).repeat(draws)
        now = replace(now, timesteps=(1000 * sigmas).expand(-1, self.chunk).to(device))
        x0 = target.latents.repeat_interleave(draws, 0)
        noise = torch.randn(x0.shape, generator=generator)
        seen = chunk_mask(context.valid.repeat_interleave(draws, 0), self.chunk).to(device)
        noisy = add_noise(x0, noise, sigmas.expand(-1, self.chunk)).to(device)
        velocity = self.module(noisy, now, mask=seen, cache=cache)
        return (velocity - (noise - x0).to(device)).square().mean()

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under three memory policies."""
        total = self.heldout.latents.shape[1]
        num_true = 1 + (total - 1) // 2 // self.chunk * self.chunk
        result: dict[str, float] = {}
        for policy in ("worldplay", "recent", "none"):
            result |= preview_rollout(
                self.world, self.heldout, folder, step, num_latents=total, policy=policy, num_true=num_true
            )
        return result
