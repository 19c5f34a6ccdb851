"""Self-rollouts: what a student makes of segments, with its own chunks in its memory (WorldPlay 3.4, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..engine.rollout import generate_chunk
from .segments import Segment, Segments


class Rollouts(Protocol):
    """Makes segments as a student is stepped."""

    ahead: int
    """How many chunks share a context when the student makes them."""

    def draw(self, generator: torch.Generator) -> tuple[Segment, Tensor]:
        """Draw a batch of segments and generate them, (B, F, C, h, w)."""
        ...

    def finished(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Generate a segment as an environment would, all steps of it, (B, F, C, h, w)."""
        ...


class ChunkRollouts:
    """One chunk after the other."""

    def __init__(self, segments: Segments, *, exit_per_chunk: bool, source: Literal["data", "self"]) -> None:
        self.segments, self.module = segments, segments.material.module
        self.sampler, self.chunk = segments.material.world.config.sampler, segments.material.chunk
        self.num_chunks = segments.material.config.num_chunks
        self.exit_per_chunk, self.source, self.ahead = exit_per_chunk, source, 1
        self.longest: int | None = None
        """Chunks of history at most."""

    def draw(self, generator: torch.Generator) -> tuple[Segment, Tensor]:
        """Draw a batch of segments and generate them, (B, F, C, h, w)."""
        segment = self.after_history(generator)
        return segment, self.rollout(segment, generator, exits=self.draw_exits(generator))

    def after_history(self, generator: torch.Generator, *, ahead: int = 1) -> Segment:
        """Draw segments with their histories: recorded, or made by the student from the start view on."""
        segment = self.segments.draw(generator, longest=self.longest, ahead=ahead)
        if self.source == "self":
            for start in range(1, int(segment.first.max()), self.chunk):
                self.roll_history(segment, start, generator)
            whole = slice(0, self.segments.num_latents)
            segment = replace(segment, rendered=self.segments.render(segment, segment.joint, whole))
        return segment

    @torch.no_grad()
    def roll_history(self, segment: Segment, start: int, generator: torch.Generator) -> None:
        """Replace the chunk of the histories that begins with latent ``start``, where it lies before the segment."""
        bank, part, zeros = segment.bank, slice(start, start + self.chunk), torch.zeros_like(segment.first)
        now = replace(segment, first=zeros + start, track=bank.track.part(part))
        index = self.segments.chunks.choose(bank.with_length(now.first), now.track, zeros, list(range(len(zeros))))
        whole = slice(0, self.chunk)
        prepared = self.segments.prepare(self.module, now, index, whole, self.segments.render(now, index, whole))
        noise = partial(self.segments.noise, bank.latents[:, part].shape, generator)
        made = generate_chunk(prepared, noise(), self.sampler, renoise=noise)
        rows = segment.first > start
        bank.latents[rows, part] = made.to("cpu", torch.float32)[rows]
        if self.segments.renderer is not None:
            self.segments.renderer.show(bank, zeros + start + self.chunk - 1)

    def rollout(self, segment: Segment, generator: torch.Generator, *, exits: Sequence[int]) -> Tensor:
        """Generate a segment chunk by chunk, each against its memory of the history and of the chunks before it.

        Chunk i leaves the sampler at step ``exits[i]``. Gradients, where they are enabled, flow through that one
        evaluation: not through contexts, nor from one chunk to the next. Returns (B, F, C, h, w).
        """
        noise = partial(self.segments.noise, segment.latents[:, : self.chunk].shape, generator)
        chunks: list[Tensor] = []
        for i, index in enumerate(segment.chosen):
            part = slice(i * self.chunk, (i + 1) * self.chunk)
            with torch.no_grad():
                rendered = self.segments.render(segment, index, part)
                prepared = self.segments.prepare(self.module, segment, index, part, rendered)
            chunks.append(generate_chunk(prepared, noise(), self.sampler, renoise=noise, exit_step=exits[i]))
            self.put(segment, part, chunks[-1])
        return torch.cat(chunks, 1)

    def put(self, segment: Segment, part: slice, latents: Tensor) -> None:
        """Remember latents of the segment (its F axis), and what they show if memory is rendered."""
        segment.put(part, latents)
        if self.segments.renderer is not None:
            self.segments.renderer.show(segment.bank, segment.first + part.stop - 1)

    def draw_exits(self, generator: torch.Generator) -> list[int]:
        """Draw the step at which each chunk leaves the sampler, or one for all of them."""
        count = self.num_chunks if self.exit_per_chunk else 1
        steps = torch.randint(self.sampler.num_steps, (count,), generator=generator)
        return steps.expand(self.num_chunks).tolist()

    def finished(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Generate a segment as an environment would, all steps of it, (B, F, C, h, w)."""
        return self.rollout(segment, generator, exits=[self.sampler.num_steps - 1] * self.num_chunks)
