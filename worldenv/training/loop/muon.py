"""Muon whose matrices are orthogonalised together, in what the device computes in.

``torch.optim.Muon`` takes them one by one, in bfloat16 everywhere. A CPU without bfloat16 needs twenty seconds for that
where float32 takes less than one, and a GPU is asked for fifteen products of each matrix instead of each shape.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...base.device import default_dtype


class Muon(torch.optim.Muon):
    """Takes the steps of ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, and keeps the same state."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        assert closure is None
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            updates = [self._update(p, group) for p in moved]
            alike = defaultdict(list)
            for i, p in enumerate(moved):
                alike[p.shape].append(i)
            for shape, members in alike.items():
                whole = orthogonalised(
                    torch.stack([updates[i] for i in members]),
                    coefficients=group["ns_coefficients"],
                    steps=group["ns_steps"],
                    eps=group["eps"],
                )
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))
                for i, update in zip(members, whole, strict=True):
                    moved[i].mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the gradient with momentum, which is kept."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        kept: Tensor = state["momentum_buffer"]
        kept.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(kept, group["momentum"]) if group["nesterov"] else kept


def orthogonalised(
    matrices: Tensor,  # (N, R, C)
    *,
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
) -> Tensor:
    """Bring all singular values of each matrix near 1 by a quintic Newton-Schulz iteration, (N, R, C) float32."""
    a, b, c = coefficients
    x = matrices.to(default_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()
