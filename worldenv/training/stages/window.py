"""Stages ``bidirectional`` and ``causal``: the action model before it has a memory, on windows of chunks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..material import Material
from ..windows import preview_window, window_loss


class WindowStage:
    """Denoises windows after a clean latent: as a whole, or, if ``causal``, chunks that see the past, each at a level.

    The first is flow matching, the second diffusion forcing, which makes the autoregressive model.
    """

    def __init__(self, material: Material, *, causal: bool) -> None:
        self.material, self.module, self.causal = material, material.module, causal

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise a batch of windows."""
        return window_loss(self.material, generator, causal=self.causal), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Generate held-out clips from their first latent along their own paths; compare with the truth."""
        return preview_window(self.material, folder, step)
