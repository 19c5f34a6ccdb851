"""Stage ``teacher``: the memory-augmented bidirectional model that context forcing distils (WorldPlay 3.4).

The same weights as the model before, trained on segments of several chunks that see each other, all at one noise level,
given the union of the memories that an autoregressive student would use for them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...diffusion.schedule import sample_sigmas
from ..chunks import chunk_error
from ..material import Material
from ..segments import Segments


class TeacherStage:
    """Flow matching on segments against C^tea."""

    def __init__(self, material: Material) -> None:
        self.material, self.module, self.segments = material, material.module, Segments(material)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise one segment per sample, ``draws`` times, against one encoding of its context."""
        config, segments = self.material.config, self.segments
        segment, draws = segments.draw(generator), config.draws
        batch = len(segment.first)
        segment = segment.without_labels(torch.rand(batch, generator=generator) < config.label_dropout)
        prepared = segments.prepare_joint(self.module, segment).repeat(draws)
        sigmas = sample_sigmas((batch * draws, 1), shift=config.shift, generator=generator)
        x0 = segment.latents.repeat_interleave(draws, 0)
        return chunk_error(prepared, x0, sigmas, generator).mean(), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Denoise the segment after the true outward half of held-out clips."""
        make = partial(self.segments.generate_joint, self.module)
        return self.segments.preview(folder, step, "teacher", make)
