"""Stage ``bidirectional``: full attention over a window, one noise level; the action model of stage one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...data.dataset import LatentDataset
from ...world.world import World
from ..loop.trainer import OptimConfig
from ..material import DenoiseConfig, Material
from ..windows import preview_window, window_loss


class BidirectionalStage:
    """Flow matching on random windows whose first latent is clean."""

    def __init__(
        self,
        world: World,
        config: DenoiseConfig,
        optim: OptimConfig,
        *,
        data: LatentDataset,
        heldout: LatentDataset | None,
    ) -> None:
        self.material, self.module = Material(world, config, optim.batch, data=data, heldout=heldout), world.dit

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise a window at one level."""
        return window_loss(self.material, generator, causal=False), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Generate held-out clips from their first latent along their own paths; compare with the truth."""
        return preview_window(self.material, folder, step)
