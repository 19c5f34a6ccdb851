"""A learner: a module with its loss and its optimizers, one update at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...base.checkpoint import load_module
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
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{n}.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor], *, where: str) -> None:
        """Take over what ``tensors`` returned."""
        load_module(self.module, under(tensors, "module."), where=where)
        for n, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in under(tensors, f"optimizer{n}.").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
