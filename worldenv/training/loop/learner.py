"""A learner: a module with its loss and its optimizers, one update at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...base.checkpoint import load_module, load_optimizer, optimizer_tensors, under
from .parallel import average_gradients, from_all

LossFn = Callable[[torch.Generator], tuple[Tensor, dict[str, float]]]
"""Draws a batch and returns its loss and figures to log."""


@dataclass(frozen=True)
class Learner:
    """What the loop updates: one module, or two by turns."""

    module: nn.Module
    loss: LossFn
    optimizers: list[torch.optim.Optimizer]
    grad_clip: float

    def update(
        self, parts: Sequence[torch.Generator], rate: float, accelerator: Accelerator, *, skip_above: float = 0.0
    ) -> dict[str, float]:
        """Take one step at this learning rate, unless the gradient is not finite or beyond ``skip_above``.

        Args:
            parts: what draws each part of this process's share of the batch, taken one after another.
            rate: learning rate.
            accelerator: what computes.
            skip_above: norm of the gradient beyond which the step is not taken; 0 is none.

        Returns:
            Figures to log: the loss of the whole batch, and whether the step was ``skipped``.
        """
        for group in (g for optimizer in self.optimizers for g in optimizer.param_groups):
            group["lr"] = rate * group.get("scale", 1.0)
        told: list[dict[str, float]] = []
        counted = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        for generator in parts:
            for buffer, before in counted:  # spectral norms iterate in every forward pass: each part goes on from the
                buffer.copy_(before)  # step's beginning, as it would in another process
            with accelerator.autocast():
                loss, figures = self.loss(generator)
            accelerator.backward(loss / len(parts))
            told.append({"loss": float(loss.detach()), **figures})
        if accelerator.num_processes > 1:
            average_gradients(self.module)
        norm = accelerator.clip_grad_norm_(self.module.parameters(), self.grad_clip)
        taken = bool(torch.isfinite(norm)) and not 0 < skip_above < float(norm)
        for optimizer in self.optimizers:
            if taken:
                optimizer.step()
            optimizer.zero_grad()
        mean = {key: average([part[key] for part in told if key in part]) for key in told[0]}
        loss_of_all = from_all(mean.pop("loss"), accelerator.device)
        return {"loss": loss_of_all, "lr": rate, "grad_norm": float(norm), "skipped": float(not taken), **mean}

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
            load_optimizer(optimizer, under(tensors, f"optimizer{n}."), where=where)


def average(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
