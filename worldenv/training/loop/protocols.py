"""What stages give to the loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .learner import LossFn


class Stage(Protocol):
    """What a stage gives to the loop."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss and figures to log."""
        ...

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Write pictures of what the EMA weights do (they are loaded meanwhile); return held-out figures."""
        ...


@dataclass(frozen=True)
class Critic:
    """A second module, trained by turns with a stage's own."""

    module: nn.Module
    loss: LossFn
    updates: int
    """Its updates before each update of the stage's module."""
    lr_scale: float
    """Its learning rate in units of the other's; the rest of the optimizer is the same."""


@runtime_checkable
class PacedStage(Stage, Protocol):
    """A stage that changes as it goes."""

    def begin(self, step: int) -> None:
        """Hear which step comes next."""
        ...


@runtime_checkable
class CriticStage(PacedStage, Protocol):
    """A stage with a critic."""

    @property
    def critic(self) -> Critic:
        """What is trained along, and kept in checkpoints."""
        ...


@runtime_checkable
class TargetStage(Stage, Protocol):
    """A stage whose loss needs the weights' moving average."""

    target: nn.Module
    """What holds the average; the loop puts it here before the first step and moves it after each."""
