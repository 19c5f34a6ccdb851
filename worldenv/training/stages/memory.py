"""Stage ``memory``: chunks that need memory, with their reconstituted context (WorldPlay 3.3, supplement A)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...base.log import console
from ...data.dataset import LatentDataset
from ...diffusion.schedule import CONTEXT_TIMESTEP, add_noise, sample_sigmas
from ...engine.rollout import Prepared, Rendered, prepare
from ...memory.bank import MemoryBank
from ...memory.config import Layout, with_policy
from ...memory.context import Context, gather
from ...memory.select import Query, select
from ...memory.worldscape import WorldScapeMemory
from ...models.dit import WorldDiT
from ...models.kv_cache import GradientCache
from ...world.world import World
from ..loop.trainer import OptimConfig
from ..preview import preview_rollout
from .denoise import CausalStage, DenoiseConfig

CHUNKS_PER_SAMPLE = 4
"""By how much a step on whole clips has fewer samples, so that it costs about what the others cost."""
SINGLES = 16
"""Latents of a clip that a step in chunks of one latent takes."""


class RecordedPast:
    """The past of a few clips as ``worldscape`` memory keeps it, with gradients; pages are places in one tensor."""

    def __init__(self, dit: WorldDiT, world: World, num_clips: int, *, chunk_latents: int) -> None:
        config = with_policy(world.config.memory, "worldscape").for_world(world.spec)
        self.dit, self.world, self.layout, self.rows = dit, world, Layout(chunk_latents), torch.arange(num_clips)
        self.store = WorldScapeMemory(config, self.layout, num_clips)
        tokens = dit.tokens(torch.empty(0, 0, *world.latent_shape))
        empty = torch.zeros(dit.config.num_layers, num_clips, 1, tokens, dit.config.num_heads, dit.config.head_dim,
                            dtype=dit.dtype, device=dit.patch_embedding.weight.device)  # fmt: skip
        self.keys, self.values = empty, empty  # (L, B, pages, S, N, head_dim); page 0 fills empty slots

    def prepare(
        self, c2w: Tensor, labels: Tensor, part: slice, *, K: Tensor, rendered: Rendered | None = None
    ) -> Prepared:
        """Place what a part of the clips (latents) will attend to."""
        reading = self.store.read(self.rows, c2w[:, part])
        safe, row = reading.index.clamp(min=0), self.rows[:, None]
        entry = self.layout.entry_of(reading.index)
        recorded = (self._gather(self.keys, reading.pages), self._gather(self.values, reading.pages))
        context = Context(torch.empty(0), c2w[row, safe], labels[row, safe], entry, recorded=recorded)
        return prepare(
            self.dit, context, c2w=c2w[:, part], labels=labels[:, part], latent_shape=self.world.latent_shape, K=K,
            unit=self.world.spec.unit, cache=GradientCache(), rendered=rendered,
        )  # fmt: skip

    def record(self, prepared: Prepared, latents: Tensor, timesteps: Tensor, c2w: Tensor, part: slice) -> None:
        """Keep the keys and values of this part."""
        device = prepared.mask.device
        keys, values = prepared.record(latents.to(device), timesteps.to(device))
        self.keys = torch.cat([self.keys, keys.to(self.keys.dtype)], 2)
        self.values = torch.cat([self.values, values.to(self.values.dtype)], 2)
        pages = torch.arange(1 + part.start, 1 + part.stop, dtype=torch.int32).expand(len(latents), -1)
        self.store.add(self.rows, c2w[:, part], pages)

    def _gather(self, whole: Tensor, table: Tensor) -> Tensor:
        flat = table.clamp(min=0).long() + whole.shape[2] * self.rows[:, None]
        picked = whole.flatten(1, 2).index_select(1, flat.flatten().to(whole.device))
        return picked.unflatten(1, table.shape)


class MemoryStage(CausalStage):
    """Stage two: chunks that need memory, with their reconstituted context."""

    def __init__(
        self, world: World, config: DenoiseConfig, optim: OptimConfig, *, data: LatentDataset,
        heldout: LatentDataset | None,
    ) -> None:  # fmt: skip
        super().__init__(world, config, optim, data=data, heldout=heldout)
        self.needed, self.every = data.chunks(chunk_latents=self.chunk, need=config.need)
        if len(self.needed) < len(self.every):
            console.print(f"{len(self.needed)} of {len(self.every)} chunks need memory")
        if not len(self.needed):
            console.print("no chunk needs memory (or the recording has no depth): sampling from all of them")
            self.needed = self.every

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise one chunk per sample, ``draws`` times, against its context; now and then another kind of step."""
        kind = float(torch.rand(1, generator=generator))
        if kind < self.config.forcing:
            return self.window_loss(generator, causal=True)
        if kind < self.config.forcing + self.config.cached:
            return self.cached_loss(generator)
        if kind < self.config.forcing + self.config.cached + self.config.single:
            return self.single_loss(generator)
        bank, target, renders = self._targets(generator)
        context = self._noised(self._context(bank, target, generator), generator)
        return self._draws_loss(context, target, generator, self._drawn(renders, generator)), {}

    def _targets(self, generator: torch.Generator) -> tuple[MemoryBank, Context, Tensor | None]:
        """Draw (clip, entry) pairs; return the histories before them, the chunks, and what is rendered of those."""
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
        return replace(history, length=first), target, self._renders(clips, index)

    def _context(self, bank: MemoryBank, target: Context, generator: torch.Generator) -> Context:
        """Reconstitute each row's context under a policy drawn for it (context dropout)."""
        index = self._choose(bank, target.c2w, *self._draw_policies(len(bank.length), generator))
        return gather(bank, index, self.layout, first=self._kept(bank.length))

    def _kept(self, first: Tensor) -> Tensor | None:
        """Return what ``gather`` keeps indices by: the first latents' (B,), or nothing where memory is reframed."""
        return None if self.world.config.memory.reframe else first

    def _draw_policies(self, batch: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """Draw the number of a policy and a seed of its choices for each row."""
        shares = torch.tensor([share for _, share in self.config.policies])
        pick = torch.multinomial(shares, batch, replacement=True, generator=generator)
        return pick, torch.randint(2**31, (batch,), generator=generator).tolist()

    def _choose(self, bank: MemoryBank, c2w: Tensor, pick: Tensor, seeds: list[int]) -> Tensor:
        """Index the context of a coming chunk with these poses under each row's policy, (B, S)."""
        index = None
        for i, (name, _) in enumerate(self.config.policies):
            config = with_policy(self.world.config.memory, name)
            if not bool((pick == i).any()):
                continue
            found = select(bank, Query(c2w, seeds), config, self.layout).index
            index = found if index is None else torch.where((pick == i)[:, None], found, index)
        assert index is not None
        return index

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

    def _draws_loss(
        self, context: Context, target: Context, generator: torch.Generator, rendered: Rendered | None = None
    ) -> Tensor:
        """Flow matching of M noise draws of the chunk against one encoding of its context, as at inference."""
        slots = context.entry.shape[1]
        labels = self._drop_labels(torch.cat([context.labels, target.labels], 1), generator)
        context, target = replace(context, labels=labels[:, :slots]), replace(target, labels=labels[:, slots:])
        prepared = self._encode(self.module, context, target, rendered)
        x0 = target.latents.repeat_interleave(self.config.draws, 0)
        sigmas = sample_sigmas((len(x0), 1), shift=self.config.shift, generator=generator)
        return self._chunk_error(prepared, x0, sigmas, generator).mean()

    def _encode(self, dit: WorldDiT, context: Context, target: Context, rendered: Rendered | None = None) -> Prepared:
        """Encode a context for ``draws`` noisy copies of each row's target."""
        prepared = prepare(
            dit, context, c2w=target.c2w, labels=target.labels, latent_shape=self.world.latent_shape, K=self.K,
            unit=self.world.spec.unit, cache=GradientCache(), rendered=rendered,
        )  # fmt: skip
        return prepared.repeat(self.config.draws)

    def cached_loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise every chunk of a few clips against what ``worldscape`` memory holds of the chunks before it.

        Keys and values are recorded chunk by chunk, each against its own context at its own time, and gradients flow
        through all of them: what the chunk sees is what it will see at inference.
        """
        count = max(1, self.optim.batch // CHUNKS_PER_SAMPLE)
        clips = self.needed[torch.randint(len(self.needed), (count,), generator=generator), 0]
        errors = self._cached_errors(clips, self.data.latents.shape[1], self.layout, generator)
        weight = self._need_weights(clips, errors.shape[1])
        return (errors * weight.to(errors.device)).mean(), {}

    def single_loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The same with chunks of one latent, over the first ``SINGLES`` of the clips: for agents that act on each."""
        count = max(1, self.optim.batch // CHUNKS_PER_SAMPLE)
        clips = torch.randint(len(self.data), (count,), generator=generator)
        length = min(1 + SINGLES, self.data.latents.shape[1])
        return self._cached_errors(clips, length, Layout(1), generator).mean(), {}

    def _cached_errors(self, clips: Tensor, length: int, layout: Layout, generator: torch.Generator) -> Tensor:
        """Return the errors of the chunks of the first ``length`` latents of some clips, (B, chunks)."""
        count, labels = len(clips), self._drop_labels(self.data.labels[clips, :length], generator)
        latents, c2w = self.data.latents[clips, :length].float(), self.data.c2w[clips, :length]
        inputs, levels = self._noised_chunks(latents, layout, generator)
        past = RecordedPast(self.module, self.world, count, chunk_latents=layout.chunk_latents)
        renders, errors = self._renders(clips, torch.arange(length).expand(count, -1)), []
        for part in layout.parts(length):
            rendered = self._drawn(None if renders is None else renders[:, :, part], generator)
            prepared = past.prepare(c2w, labels, part, K=self.K, rendered=rendered)
            if part.start:
                sigmas = sample_sigmas((count, 1), shift=self.config.shift, generator=generator)
                errors.append(self._chunk_error(prepared, latents[:, part], sigmas, generator))
            past.record(prepared, inputs[:, part], levels[:, part], c2w, part)
        return torch.stack(errors, 1)

    def _chunk_error(self, prepared: Prepared, x0: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
        """Return the flow-matching error of a chunk at one noise level per row (B, 1); (B,)."""
        device = prepared.mask.device
        noise = torch.randn(x0.shape, generator=generator).to(device)
        x0, level = x0.to(device), sigmas.expand(-1, x0.shape[1]).to(device)
        velocity = prepared.velocity(add_noise(x0, noise, level), 1000 * level)
        return (velocity - (noise - x0)).square().mean((1, 2, 3, 4))

    def _noised_chunks(self, latents: Tensor, layout: Layout, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise whole clips as contexts are noised: a level per chunk, or none and the label of clean context."""
        entry = layout.entry_of(torch.arange(latents.shape[1])).expand(len(latents), -1)
        whole = self._noised(Context(latents, latents, latents, entry), generator)
        assert whole.timesteps is not None
        return whole.latents, whole.timesteps

    def _need_weights(self, clips: Tensor, num_chunks: int) -> Tensor:
        """Weigh chunks so that those which need memory count for the share ``necessary``, (B, num_chunks), mean 1."""
        needs = torch.zeros(len(self.data), num_chunks + 1, dtype=torch.bool)
        needs[self.needed[:, 0], self.needed[:, 1].clamp(max=num_chunks)] = True
        needs = needs[clips, 1:]
        share = needs.float().mean().clamp(0.05, 0.95)
        goal = torch.tensor(min(self.config.necessary, 1.0)).maximum(share)
        return torch.where(needs, goal / share, (1 - goal) / (1 - share))

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under several memory policies."""
        total = self.heldout.latents.shape[1]
        num_true = 1 + (total - 1) // 2 // self.chunk * self.chunk
        result: dict[str, float] = {}
        recorded = ("worldscape",) if self.config.cached else ()
        for policy in ("worldplay", *recorded, "recent", "none"):
            result |= preview_rollout(
                self.world, self.heldout, folder, step, num_latents=total, policy=policy, num_true=num_true
            )
        return result
