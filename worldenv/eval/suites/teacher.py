"""A teacher as an arm: several chunks denoised jointly, given what they remember of what lies before them.

WorldPlay's table 6 has the bidirectional model beside the student, and its distillation stands on it: a teacher that is
no better than the student on the same contexts has nothing to teach.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ...base.rng import derive_seed
from ...data.dataset import LatentDataset
from ...models.codec import to_frames, to_pixels
from ...training.material import DenoiseConfig, Material
from ...training.segments import Segments
from ...world.world import World
from .arms import Progress
from .cases import PROTOCOL, Cases


@dataclass(frozen=True)
class JointArm:
    """A world of stage ``teacher``: segments of chunks, one after the other, each against C^tea.

    Its noise is drawn for a whole batch of cases, apart from that of other arms.
    """

    world: World
    given: int = 0
    """Chunks at the beginning of a path that are remembered as they truly were, instead of made."""
    num_chunks: int = 4
    """Chunks of a segment; a shorter one ends a path that is not whole segments."""

    @torch.no_grad()
    def __call__(self, cases: Cases, progress: Progress) -> Tensor:
        """Show all cases as one batch; the last segment is as long as the path has chunks left."""
        spec, vae, batch = self.world.spec, self.world.vae, len(cases)
        progress.given_frames = self.given * spec.chunk_frames
        data = self._remembered(cases, progress.given_frames)
        total, rows = cases.c2w.shape[1] // spec.chunk_latents, torch.arange(batch)
        generator = torch.Generator().manual_seed(derive_seed(PROTOCOL, "joint", *cases.seeds))
        for entry in range(1 + self.given, 1 + total, self.num_chunks):
            began, length = time.perf_counter(), min(self.num_chunks, 1 + total - entry)
            config = DenoiseConfig(num_chunks=length, policies=((self.world.config.memory.policy, 1.0),))
            segments = Segments(Material(self.world, config, batch, data=data, heldout=None))
            zeros = torch.zeros_like(rows)
            segment = segments.cut(data, rows, zeros + entry, zeros, rows.tolist())
            made = segments.generate_joint(self.world.dit, segment, generator).cpu()
            first = int(segment.first[0])
            data.latents[:, first : first + made.shape[1]] = made
            for _ in range(length):
                progress.chunk((time.perf_counter() - began) / length)
        shown = to_frames(torch.cat([vae.decode(row[None].to(vae.latent_mean.device)) for row in data.latents])).cpu()
        known = 1 + progress.given_frames
        return torch.cat([cases.frames[:, :known], shown[:, known:]], 1)

    def _remembered(self, cases: Cases, given_frames: int) -> LatentDataset:
        """Encode what is given; what is to be made is not there yet."""
        vae = self.world.vae
        pixels = to_pixels(cases.frames[:, : 1 + given_frames]).to(vae.latent_mean.device, vae.dtype)
        known = torch.cat([vae.encode(clip[None]) for clip in pixels]).float().cpu()
        path = torch.cat([cases.start_c2w[:, None], cases.c2w], 1)
        latents = torch.full((*path.shape[:2], *known.shape[2:]), torch.nan)
        latents[:, : known.shape[1]] = known
        return LatentDataset(latents, self.world.spec.complete({"c2w": path}), torch.ones(path.shape[:2]))
