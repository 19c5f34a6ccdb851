"""Whole clips against kept keys and values, as ``worldscape`` memory keeps them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.schedule import sample_sigmas
from ..dynamics.signals import Track
from ..engine.rollout import Prepared, Rendered, prepare
from ..memory.config import Layout, with_policy
from ..memory.context import Context
from ..memory.worldscape import WorldScapeMemory
from ..models.dit import WorldDiT
from ..models.kv_cache import GradientCache
from ..world.world import World
from .chunks import Chunks, chunk_error

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
        empty = torch.zeros(
            dit.config.num_layers,
            num_clips,
            1,
            tokens,
            dit.config.num_heads,
            dit.config.head_dim,
            dtype=dit.dtype,
            device=dit.patch_embedding.weight.device,
        )
        self.keys, self.values = empty, empty  # (L, B, pages, S, N, head_dim); page 0 fills empty slots

    def prepare(self, track: Track, part: slice, *, K: Tensor, rendered: Rendered | None = None) -> Prepared:
        """Place what a part of the clips (latents) will attend to."""
        reading = self.store.read(self.rows, track.part(part))
        safe, row = reading.index.clamp(min=0), self.rows[:, None]
        entry = self.layout.entry_of(reading.index)
        recorded = (self._gather(self.keys, reading.pages), self._gather(self.values, reading.pages))
        context = Context(torch.empty(0), track.at((row, safe)), entry, recorded=recorded)
        return prepare(
            self.dit,
            context,
            track=track.part(part),
            latent_shape=self.world.latent_shape,
            K=K,
            unit=self.world.spec.unit,
            cache=GradientCache(),
            rendered=rendered,
        )

    def record(self, prepared: Prepared, latents: Tensor, timesteps: Tensor, track: Track, part: slice) -> None:
        """Keep the keys and values of this part."""
        device = prepared.mask.device
        keys, values = prepared.record(latents.to(device), timesteps.to(device))
        self.keys = torch.cat([self.keys, keys.to(self.keys.dtype)], 2)
        self.values = torch.cat([self.values, values.to(self.values.dtype)], 2)
        pages = torch.arange(1 + part.start, 1 + part.stop, dtype=torch.int32).expand(len(latents), -1)
        self.store.add(self.rows, track.part(part), pages)

    def _gather(self, whole: Tensor, table: Tensor) -> Tensor:
        flat = table.clamp(min=0).long() + whole.shape[2] * self.rows[:, None]
        picked = whole.flatten(1, 2).index_select(1, flat.flatten().to(whole.device))
        return picked.unflatten(1, table.shape)


def cached_loss(chunks: Chunks, generator: torch.Generator) -> Tensor:
    """Denoise every chunk of a few clips against what ``worldscape`` memory holds of the chunks before it.

    Keys and values are recorded chunk by chunk, each against its own context at its own time, and gradients flow
    through all of them: what the chunk sees is what it will see at inference.
    """
    m = chunks.material
    count = max(1, m.batch // CHUNKS_PER_SAMPLE)
    clips = chunks.needed[torch.randint(len(chunks.needed), (count,), generator=generator), 0]
    errors = _cached_errors(chunks, clips, m.data.latents.shape[1], m.layout, generator)
    weight = chunks.need_weights(clips, errors.shape[1])
    return (errors * weight.to(errors.device)).mean()


def single_loss(chunks: Chunks, generator: torch.Generator) -> Tensor:
    """The same with chunks of one latent, over the first ``SINGLES`` of the clips: for agents that act on each."""
    m = chunks.material
    count = max(1, m.batch // CHUNKS_PER_SAMPLE)
    clips = torch.randint(len(m.data), (count,), generator=generator)
    length = min(1 + SINGLES, m.data.latents.shape[1])
    return _cached_errors(chunks, clips, length, Layout(1), generator).mean()


def _cached_errors(chunks: Chunks, clips: Tensor, length: int, layout: Layout, generator: torch.Generator) -> Tensor:
    """Return the errors of the chunks of the first ``length`` latents of some clips, (B, chunks)."""
    m = chunks.material
    count, track = len(clips), m.drop_labels(m.data.track.at((clips, slice(length))), generator)
    latents = m.data.latents[clips, :length].float()
    inputs, levels = _noised_chunks(chunks, latents, layout, generator)
    past = RecordedPast(m.module, m.world, count, chunk_latents=layout.chunk_latents)
    renders, errors = m.renders(clips, torch.arange(length).expand(count, -1)), []
    for part in layout.parts(length):
        rendered = m.drawn(None if renders is None else renders[:, :, part], generator)
        prepared = past.prepare(track, part, K=m.K, rendered=rendered)
        if part.start:
            sigmas = sample_sigmas((count, 1), shift=m.config.shift, generator=generator)
            errors.append(chunk_error(prepared, latents[:, part], sigmas, generator))
        past.record(prepared, inputs[:, part], levels[:, part], track, part)
    return torch.stack(errors, 1)


def _noised_chunks(
    chunks: Chunks, latents: Tensor, layout: Layout, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noise whole clips as contexts are noised: a level per chunk, or none and the label of clean context."""
    entry = layout.entry_of(torch.arange(latents.shape[1])).expand(len(latents), -1)
    whole = chunks.noised(Context(latents, Track(), entry), generator)
    assert whole.timesteps is not None
    return whole.latents, whole.timesteps
