"""Stage ``memory``: chunks that need memory, with their reconstituted context (WorldPlay 3.3, supplement A)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..chunks import Chunks, preview_policies
from ..material import Material
from ..recorded import cached_loss, single_loss
from ..windows import window_loss


class MemoryStage:
    """Denoises one chunk per sample against its context; now and then takes another kind of step."""

    def __init__(self, material: Material) -> None:
        self.material, self.module, self.chunks = material, material.module, Chunks(material)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise a chunk ``draws`` times against one encoding of its context, or take another kind of step."""
        config, kind = self.material.config, float(torch.rand(1, generator=generator))
        if kind < config.forcing:
            return window_loss(self.material, generator, causal=True), {}
        if kind < config.forcing + config.cached:
            return cached_loss(self.chunks, generator), {}
        if kind < config.forcing + config.cached + config.single:
            return single_loss(self.chunks, generator), {}
        bank, target, renders = self.chunks.targets(generator)
        context = self.chunks.noised(self.chunks.context(bank, target, generator), generator)
        return self.chunks.draws_loss(context, target, generator, self.material.drawn(renders, generator)), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under several memory policies."""
        return preview_policies(self.material, folder, step)
