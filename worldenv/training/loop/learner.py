"""A learner: a module with its loss and its optimizers, one update at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...base.checkpoint import load_module, load_optimizer, optimizer_tensors, under
from .parallel import average_gradients

LossFn = Callable[[torch.Generator], tuple[Tensor, dict[str, float]]]
"""Draws a batch and returns its loss and figures to log."""


@dataclass(frozen=True)
class Learner:
    """What the loop updates: one module, or two by turns."""

    module: nn.Module
    loss: LossFn
    optimizers: list[torch.optim.Optimizer]
    grad_clip: float

    def update(self, generator: torch.Generator, rate: float, accelerator: Accelerator) -> dict[str, float]:
        """Take one step at this learning rate, unless the gradient is not finite; return figures to log."""
        for group in (g for optimizer in self.optimizers for g in optimizer.param_groups):
            group["lr"] = rate * group.get("scale", 1.0)
        with accelerator.autocast():
            loss, figures = self.loss(generator)
        accelerator.backward(loss)
        if accelerator.num_processes > 1:
            average_gradients(self.module)
        norm = accelerator.clip_grad_norm_(self.module.parameters(), self.grad_clip)
        for optimizer in self.optimizers:
            if torch.isfinite(norm):
                optimizer.step()
            optimizer.zero_grad()
        return {"loss": float(loss.detach()), "lr": rate, "grad_norm": float(norm), **figures}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and the optimizers' state under the names of a checkpoint."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        for n, optimizer in enumerate(self.optimizers):
            tensors |= {f"optimizer{n}.{k}": v for k, v in optimizer_tensors(optimizer).items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor], *, where: str) -> None:
        """Take over what ``tensors`` returned."""
        load_module(self.module, under(tensors, "module."), where=where)
        for n, optimizer in enumerate(self.optimizers):
            load_optimizer(optimizer, under(tensors, f"optimizer{n}."))
