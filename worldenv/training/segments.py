"""Several chunks at once: what each of them sees, and what a teacher that denoises them jointly sees.

Chunk i of a segment j..j+n-1 sees its reconstituted memory C_i. The teacher sees C^tea, the union of all C_i without
the segment itself (WorldPlay 3.4, Algorithm 1, line 11): latents from before the segment, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..base.rng import normal
from ..data.dataset import LatentDataset
from ..dynamics.signals import Track
from ..engine.rollout import Prepared, Rendered, generate_chunk, prepare
from ..memory.bank import MemoryBank
from ..memory.config import Layout
from ..memory.context import gather
from ..memory.select import Query, select
from ..models.dit import WorldDiT
from ..models.kv_cache import GradientCache
from .chunks import Chunks
from .material import Material, without_codes
from .preview import NUM_CLIPS, compare
from .renders import SegmentRenderer
from .symptoms import symptoms


@dataclass(frozen=True)
class Segment:
    """Chunks in a row of B clips, the history before them, and what each of them sees of it and of each other."""

    bank: MemoryBank  # the history; latents of the segment itself are NaN until somebody puts them there
    first: Tensor  # (B,) index of the segment's first latent, the length of the history
    latents: Tensor  # (B, F, C, h, w) as recorded
    track: Track  # each (B, F, ...)
    chosen: tuple[Tensor, ...]  # C_i of every chunk: (B, S) index of latents, -1 in empty slots
    joint: Tensor  # (B, S') the same for C^tea
    rendered: Rendered | None = None  # what C^tea shows of the segment, if the transformer takes that in
    shows: Tensor | None = None  # (B,) bool: rows that renders show something to

    def without_labels(self, rows: Tensor) -> Segment:
        """Return the same with nothing commanded in these rows, (B,) bool, wherever their cameras go."""
        bank = replace(self.bank, track=without_codes(self.bank.track, rows))
        return replace(self, bank=bank, track=without_codes(self.track, rows))

    def put(self, part: slice, latents: Tensor) -> None:
        """Remember latents of the segment (its F axis), so that chunks to come see them."""
        index = self.first[:, None] + torch.arange(part.start, part.stop)
        self.bank.latents[torch.arange(len(index))[:, None], index] = latents.detach().to("cpu", torch.float32)


def joint_index(
    chosen: Sequence[Tensor],  # C_i of every chunk, each (B, S), -1 for none
    first: Tensor,  # (B,) index of the segment's first latent
) -> Tensor:
    """Index C^tea: all that the chunks see but themselves, in order of time; (B, S'), -1 in empty slots on the left."""
    index = torch.cat(list(chosen), 1)
    index = torch.where(index < first[:, None], index, -1).sort(1).values
    again = torch.zeros_like(index, dtype=torch.bool)
    again[:, 1:] = index[:, 1:] == index[:, :-1]
    index = index.masked_fill(again, -1).sort(1).values
    return index[:, -int((index >= 0).sum(1).max()) :]


def assert_aligned(chosen: Sequence[Tensor], joint: Tensor, first: Tensor) -> None:
    """Assert element by element that C^tea is what the chunks see without the segment, in order of time.

    Both are fetched from one bank by these indices: equal ones are equal chunks, pictures, poses, keys and labels of
    noise, and slots are numbered in this order.
    """
    for row, start in enumerate(first.tolist()):
        seen = {i for index in chosen for i in index[row].tolist() if 0 <= i < start}
        held = [i for i in joint[row].tolist() if i >= 0]
        assert held == sorted(seen), f"the teacher of row {row} sees latents {held}, its student {sorted(seen)}"


class Segments:
    """Draws segments of ``num_chunks`` chunks, with the contexts of a student and of its joint teacher."""

    def __init__(self, material: Material) -> None:
        if material.reach is not None:
            raise ValueError(
                "[memory] kept=true: segments are made and judged against contexts encoded anew; set kept=false"
            )
        self.material, self.chunks, self.chunk = material, Chunks(material), material.chunk
        self.num_latents = material.config.num_chunks * material.chunk
        rendered = material.module.config.render_input
        self.renderer = SegmentRenderer(material.world, material.degrade) if rendered else None
        for part in (material.data, material.heldout):
            if (found := part.latents.shape[1]) < 1 + self.num_latents:
                raise ValueError(
                    f"clips of {found} latents hold no segment of denoise.num_chunks={material.config.num_chunks} "
                    f"chunks after their first latent; record {1 + self.num_latents} latents or more"
                )

    def draw(self, generator: torch.Generator, *, longest: int | None = None, ahead: int = 1) -> Segment:
        """Draw segments after at most ``longest`` chunks of history; ``ahead`` as in ``cut``."""
        clips, entries = self.places(generator, longest)
        pick, seeds = self.chunks.draw_policies(len(clips), generator)
        return self.cut(self.material.data, clips, entries, pick, seeds, ahead=ahead, generator=generator)

    def places(self, generator: torch.Generator, longest: int | None) -> tuple[Tensor, Tensor]:
        """Draw (clip, first entry), each (B,): a share ``necessary`` of them holds a chunk that needs memory."""
        batch, num = self.material.batch, self.material.config.num_chunks
        last = int(self.chunks.every[:, 1].max()) - num + 1
        last = last if longest is None else min(last, 1 + longest)
        need = torch.rand(batch, generator=generator) < self.material.config.necessary
        every = torch.cartesian_prod(torch.arange(len(self.material.data)), torch.arange(1, last + 1))
        every = every[every[:, 1] * self.chunk < self.material.data.lengths[every[:, 0]]]  # within their episodes
        needed = self.chunks.needed[self.chunks.needed[:, 1] < last + num]
        needed = needed if len(needed) else every
        a = needed[torch.randint(len(needed), (batch,), generator=generator)]
        a[:, 1] = (a[:, 1] - torch.randint(num, (batch,), generator=generator)).clamp(1, last)
        b = every[torch.randint(len(every), (batch,), generator=generator)]
        clips, entries = torch.where(need[:, None], a, b).unbind(1)
        return clips, entries

    def cut(
        self,
        data: LatentDataset,
        clips: Tensor,
        entries: Tensor,
        pick: Tensor,
        seeds: list[int],
        *,
        ahead: int = 1,
        generator: torch.Generator | None = None,
    ) -> Segment:
        """Cut segments out of clips and choose every chunk's context, which its poses and its past's determine.

        With ``ahead`` the poses of so many chunks from it on: it is the front of a window that shares the context.
        With a generator what is rendered is made worse and left out as in training.
        """
        first, rows = self.chunk * (entries - 1) + 1, clips[:, None]
        inside = first[:, None] + torch.arange(self.num_latents)
        track = data.track.at((rows, inside))
        bank = self.material.bank(
            data,
            clips,
            torch.arange(int(first.max()) + self.num_latents)
            .expand(len(clips), -1)
            .clamp(max=data.latents.shape[1] - 1),
        )
        bank.latents[torch.arange(bank.latents.shape[1]) >= first[:, None]] = torch.nan
        chosen = tuple(
            self.chunks.choose(
                bank.with_length(first + start), track.part(slice(start, start + ahead * self.chunk)), pick, seeds
            )
            for start in range(0, self.num_latents, self.chunk)
        )
        joint = joint_index(chosen, first)
        if self.material.config.teacher_memory == "per_latent":
            joint = self._best_latents(bank.with_length(first), track)
        else:
            assert_aligned(chosen, joint, first)
        segment = Segment(bank, first, data.latents[rows, inside].float(), track, chosen, joint)
        return segment if self.renderer is None else self._with_renders(segment, self.renderer, data, clips, generator)

    def _with_renders(
        self,
        segment: Segment,
        renderer: SegmentRenderer,
        data: LatentDataset,
        clips: Tensor,
        generator: torch.Generator | None,
    ) -> Segment:
        """Keep what the history shows, and render C^tea into the segment."""
        shows = torch.ones(len(clips), dtype=torch.bool)
        if generator is not None:
            shows = torch.rand(len(clips), generator=generator) >= self.material.config.render_dropout
        segment = replace(segment, bank=renderer.begin(segment.bank, data, clips, generator), shows=shows)
        return replace(segment, rendered=self.render(segment, segment.joint, slice(0, self.num_latents)))

    def render(self, segment: Segment, index: Tensor, part: slice) -> Rendered | None:
        """Render the latents ``index`` (B, S) into a part of the segment, whole chunks."""
        if self.renderer is None:
            return None
        assert segment.shows is not None
        made = self.renderer(segment.bank, index, segment.track["c2w"][:, part], segment.first + part.start)
        return made.only(segment.shows).to(self.material.device)

    def _best_latents(self, bank: MemoryBank, track: Track) -> Tensor:
        """Index the recent latents and those single older ones that a whole segment overlaps with most, (B, S')."""
        memory = self.material.world.config.memory
        latents = replace(memory, retrieved_chunks=memory.retrieved_chunks * self.chunk)
        return select(bank, Query(track), latents, Layout(1)).index

    def prepare(
        self, dit: WorldDiT, segment: Segment, index: Tensor, part: slice, rendered: Rendered | None = None
    ) -> Prepared:
        """Encode the latents ``index`` (B, S) for a part of the segment: clean, and labelled as clean context is."""
        context = gather(
            segment.bank, index, self.material.layout, first=self.material.kept(segment.first + part.start)
        )
        return prepare(
            dit,
            context,
            track=segment.track.part(part),
            latent_shape=self.material.world.latent_shape,
            K=self.material.K,
            unit=self.material.world.spec.unit,
            cache=GradientCache(),
            rendered=rendered,
        )

    def prepare_joint(self, dit: WorldDiT, segment: Segment) -> Prepared:
        """Encode C^tea for the whole segment."""
        before = segment.joint < segment.first[:, None]
        assert bool(before.all()), "the teacher's context ends where the segment begins"
        return self.prepare(dit, segment, segment.joint, slice(0, self.num_latents), segment.rendered)

    def generate_joint(self, dit: WorldDiT, segment: Segment, generator: torch.Generator) -> Tensor:
        """Denoise segments jointly with a teacher, (B, F, C, h, w)."""
        prepared = self.prepare_joint(dit, segment)
        noise = partial(self.noise, segment.latents.shape, generator)
        return generate_chunk(prepared, noise(), self.material.world.config.sampler, renoise=noise)

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draw noise where the transformer is."""
        return normal(shape, generator, self.material.device)

    def preview(
        self,
        folder: Path,
        step: int,
        name: str,
        make: Callable[[Segment, torch.Generator], Tensor],
        *,
        history: int | None = None,
        ahead: int = 1,
    ) -> dict[str, float]:
        """Continue held-out clips by one segment after ``history`` true chunks, by default half of the clip.

        Returns how it compares with the truth; ``ahead`` as in ``cut``.
        """
        total = (self.material.heldout.latents.shape[1] - 1) // self.chunk
        entry = 1 + min(total // 2 if history is None else history, total - self.material.config.num_chunks)
        count = min(NUM_CLIPS, len(self.material.heldout))
        zeros = torch.zeros(count, dtype=torch.long)
        segment = self.cut(
            self.material.heldout, torch.arange(count), zeros + entry, zeros, list(range(count)), ahead=ahead
        )
        made = make(segment, torch.Generator().manual_seed(0)).cpu()
        first = int(segment.first[0])
        truth = self.material.heldout.latents[:count, : first + self.num_latents].float()
        path = folder / "samples" / f"{step:06d}-{name}.png"
        vae = self.material.world.vae.to(self.material.device)
        measure = partial(
            symptoms,
            chunk_frames=self.material.world.spec.chunk_frames,
            period=vae.spatial_factor * self.material.module.config.patch,
        )
        made = torch.cat([truth[:, :first], made], 1)
        return compare(self.material.world, (made, truth), path, name, first, measure=measure)
