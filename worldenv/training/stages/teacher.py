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
from ..segments import JointStage


class TeacherStage(JointStage):
    """Flow matching on segments against C^tea."""

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise one segment per sample, ``draws`` times, against one encoding of its context."""
        segment, draws = self._segment(generator), self.config.draws
        batch = len(segment.first)
        segment = segment.without_labels(torch.rand(batch, generator=generator) < self.config.label_dropout)
        prepared = self._prepare_joint(self.module, segment).repeat(draws)
        sigmas = sample_sigmas((batch * draws, 1), shift=self.config.shift, generator=generator)
        x0 = segment.latents.repeat_interleave(draws, 0)
        return self._chunk_error(prepared, x0, sigmas, generator).mean(), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Denoise the segment after the true outward half of held-out clips."""
        return self._preview_segment(folder, step, "teacher", partial(self.generate_joint, self.module))
