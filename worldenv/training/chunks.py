"""Single chunks with the memory of what lies before them (WorldPlay 3.3, supplement A)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..base.log import console
from ..base.rng import normal
from ..diffusion.schedule import CONTEXT_TIMESTEP, add_noise, predict_x0, sample_sigmas
from ..dynamics.signals import Track
from ..engine.rollout import Prepared, Rendered, prepare
from ..memory.bank import MemoryBank
from ..memory.config import num_slots, with_policy
from ..memory.context import Context, gather
from ..memory.select import BY_POSE, Query, select
from ..models.dit import WorldDiT
from ..models.kv_cache import GradientCache
from .material import Material
from .preview import preview_rollout

BLOCK = 256
"""Chunks whose contexts are chosen at once."""


@dataclass(frozen=True)
class Denoised:
    """What the network made of noisy chunks."""

    x0: Tensor  # (N, F, C, h, w) its estimate
    error: Tensor  # (N,) of flow matching
    sigmas: Tensor  # (N, F)

    def at(self, rows: slice | Tensor) -> Denoised:
        """Return some rows."""
        return Denoised(self.x0[rows], self.error[rows], self.sigmas[rows])


class Chunks:
    """Draws chunks that need memory, reconstitutes their contexts and denoises them."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.needed, self.every = material.data.chunks(chunk_latents=material.chunk, need=material.config.need)
        if len(self.needed) < len(self.every):
            console.print(f"{len(self.needed)} of {len(self.every)} chunks need memory")
        if not len(self.needed):
            console.print("no chunk needs memory (or the recording does not tell): sampling from all of them")
            self.needed = self.every

    def targets(self, generator: torch.Generator) -> tuple[MemoryBank, Context, Tensor | None]:
        """Draw (clip, entry) pairs; return the histories before them, the chunks, and what is rendered of those."""
        batch = self.material.batch
        need = torch.rand(batch, generator=generator) < self.material.config.necessary
        a = self.needed[torch.randint(len(self.needed), (batch,), generator=generator)]
        b = self.every[torch.randint(len(self.every), (batch,), generator=generator)]
        clips, entries = torch.where(need[:, None], a, b).unbind(1)
        first = self.material.chunk * (entries - 1) + 1
        index = first[:, None] + torch.arange(self.material.chunk)
        rows = clips[:, None]
        target = Context(
            self.material.data.latents[rows, index].to(self.material.device).float(),
            self.material.data.track.at((rows, index)),
            entries[:, None].expand(-1, self.material.chunk),
            weight=self.material.weight(clips, index),
        )
        return self.material.history(clips, first), target, self.material.renders(clips, index)

    def context(self, bank: MemoryBank, target: Context, generator: torch.Generator) -> Context:
        """Reconstitute each row's context under a policy drawn for it (context dropout).

        Where keys and values are kept it goes back twice as far as the chunk sees: what it sees has seen that.
        """
        pick, seeds = self.draw_policies(len(bank.length), generator)
        assert bank.order is not None
        index = self.choose(bank, target.track, pick, seeds, places=(bank.order, target.entry[:, 0]))
        found = gather(bank, index, self.material.layout, first=self.material.kept(bank.length))
        return replace(found, latents=found.latents.to(self.material.device).float(), reach=self.material.reach)

    def draw_policies(self, batch: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
        """Draw the number of a policy and a seed of its choices for each row."""
        shares = torch.tensor([share for _, share in self.material.config.policies])
        pick = torch.multinomial(shares, batch, replacement=True, generator=generator)
        return pick, torch.randint(2**31, (batch,), generator=generator).tolist()

    def choose(
        self,
        bank: MemoryBank,
        track: Track,  # of the coming chunks
        pick: Tensor,  # (B,) number of each row's policy
        seeds: list[int],
        *,
        places: tuple[Tensor, Tensor] | None = None,  # each (B,): clips and entries of them, if they are recorded
    ) -> Tensor:
        """Index the context of a coming chunk under each row's policy, (B, S)."""
        memory, layout, reach = self.material.world.config.memory, self.material.layout, self.material.reach
        if reach is not None:
            memory = replace(memory, temporal_latents=2 * reach * layout.chunk_latents, retrieved_chunks=0)
        index = torch.empty(len(pick), num_slots(memory, layout.chunk_latents), dtype=torch.long)
        for i, (name, _) in enumerate(self.material.config.policies):
            rows = (pick == i).nonzero()[:, 0]
            if places is not None and name == "worldplay" and len(rows):
                index[rows] = self.by_pose[places[0][rows], places[1][rows]]
            elif len(rows):
                query = Query(track.at(rows), [seeds[row] for row in rows.tolist()])
                index[rows] = select(bank.rows(rows), query, with_policy(memory, name), layout).index
        return index

    @cached_property
    def by_pose(self) -> Tensor:
        """What ``worldplay`` memory chooses for every chunk, (clips, 1 + entries, S): poses are recorded, so once."""
        m, (clips, entries) = self.material, self.every.unbind(1)
        memory = with_policy(m.world.config.memory, "worldplay")
        first = m.chunk * (entries - 1) + 1
        index = first[:, None] + torch.arange(m.chunk)
        found = [
            select(m.history(row, length), Query(m.data.track.at((row[:, None], at))), memory, m.layout).index
            for row, length, at in zip(clips.split(BLOCK), first.split(BLOCK), index.split(BLOCK), strict=True)
        ]
        table = torch.full((len(m.data), 1 + int(entries.max()), found[0].shape[1]), -1)
        table[clips, entries] = torch.cat(found)
        return table

    def noised(self, context: Context, generator: torch.Generator) -> Context:
        """Noise each context chunk at its own level, or leave a sample's context clean."""
        low, high = self.material.config.context_noise
        batch, slots = context.entry.shape
        levels = torch.rand(batch, slots, generator=generator)
        # Latents of one entry share the level drawn for the entry's first slot.
        first = (context.entry[:, :, None] == context.entry[:, None, :]).float().argmax(2)
        sigmas = low + (high - low) * levels.gather(1, first)
        clean = torch.rand(batch, 1, generator=generator) < self.material.config.clean_context
        sigmas = torch.where(clean, 0.0, sigmas)
        device = self.material.device
        noise = normal(context.latents.shape, generator, device)
        timesteps = torch.where(clean, CONTEXT_TIMESTEP, 1000 * sigmas)
        latents = add_noise(context.latents.to(device), noise, sigmas.to(device))
        return replace(context, latents=latents, timesteps=timesteps)

    def draws_loss(
        self, context: Context, target: Context, generator: torch.Generator, rendered: Rendered | None = None
    ) -> Tensor:
        """Flow matching of M noise draws of the chunk against one encoding of its context, as at inference."""
        return self.denoised(context, target, generator, rendered).error.mean()

    def denoised(
        self, context: Context, target: Context, generator: torch.Generator, rendered: Rendered | None = None
    ) -> Denoised:
        """Denoise M noise draws of each chunk, one behind the other, against one encoding of its context."""
        slots = context.entry.shape[1]
        track = self.material.drop_labels(Track.join([context.track, target.track]), generator)
        context = replace(context, track=track.part(slice(slots)))
        target = replace(target, track=track.part(slice(slots, None)))
        prepared = self.encode(self.material.module, context, target, rendered)
        x0 = target.latents.repeat_interleave(self.material.config.draws, 0)
        sigmas = sample_sigmas((len(x0), 1), shift=self.material.config.shift, generator=generator)
        weight = target.weight
        if weight is not None:
            weight = weight.repeat_interleave(self.material.config.draws, 0)
        return denoise(prepared, x0, sigmas, generator, weight=weight)

    def encode(self, dit: WorldDiT, context: Context, target: Context, rendered: Rendered | None = None) -> Prepared:
        """Encode a context for ``draws`` noisy copies of each row's target."""
        prepared = prepare(
            dit,
            context,
            track=target.track,
            latent_shape=self.material.world.latent_shape,
            K=self.material.K,
            unit=self.material.world.spec.unit,
            cache=GradientCache(),
            rendered=rendered,
        )
        return prepared.repeat(self.material.config.draws)

    def need_weights(self, clips: Tensor, num_chunks: int) -> Tensor:
        """Weigh chunks so that those which need memory count for the share ``necessary``, (B, num_chunks), mean 1."""
        needs = torch.zeros(len(self.material.data), num_chunks + 1, dtype=torch.bool)
        needs[self.needed[:, 0], self.needed[:, 1].clamp(max=num_chunks)] = True
        needs = needs[clips, 1:]
        share = needs.float().mean().clamp(0.05, 0.95)
        goal = torch.tensor(min(self.material.config.necessary, 1.0)).maximum(share)
        return torch.where(needs, goal / share, (1 - goal) / (1 - share))


def chunk_error(prepared: Prepared, x0: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """Return the flow-matching error of a chunk at one noise level per row (B, 1); (B,)."""
    return denoise(prepared, x0, sigmas, generator).error


def denoise(
    prepared: Prepared, x0: Tensor, sigmas: Tensor, generator: torch.Generator, *, weight: Tensor | None = None
) -> Denoised:
    """Noise a chunk at one level per row (B, 1) and let the network look at it; errors of cells count by ``weight``."""
    device = prepared.mask.device
    noise = normal(x0.shape, generator, device)
    x0, level = x0.to(device), sigmas.expand(-1, x0.shape[1]).to(device)
    x = add_noise(x0, noise, level)
    velocity = prepared.velocity(x, 1000 * level)
    squares = (velocity - (noise - x0)).square()
    error = (squares if weight is None else squares * weight.to(device)).mean((1, 2, 3, 4))
    return Denoised(predict_x0(x, velocity, level), error, level)


def preview_policies(m: Material, folder: Path, step: int) -> dict[str, float]:
    """Return paths of held-out clips after a true outward half, under several memory policies."""
    total = m.heldout.latents.shape[1]
    num_true = 1 + (total - 1) // 2 // m.chunk * m.chunk
    result: dict[str, float] = {}
    recorded = ("worldscape",) if m.config.cached else ()
    for policy in ("worldplay", *recorded, "recent", "none"):
        if policy in BY_POSE and not m.world.spec.has_camera:
            continue
        result |= preview_rollout(m.world, m.heldout, folder, step, num_latents=total, policy=policy, num_true=num_true)
    return result
