"""Distribution matching distillation: the gradient of KL(student || data) from two scores (WorldPlay 3.4).

Both scores are given as x0 predictions at one noisy sample: the teacher's of data, the critic's of what the student
makes. Where the critic finds the sample typical and the teacher would have it elsewhere, it moves there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .schedule import shift_sigmas


def score_sigmas(count: int, *, shift: float, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Draw one level per clip, (count, 1): uniform, shifted towards noise, kept within bounds."""
    return shift_sigmas(torch.rand(count, 1, generator=generator), shift).clamp(*bounds)


def dmd_gradient(
    x: Tensor,  # (B, F, C, h, w) what the student made
    x_real: Tensor,  # (B, F, C, h, w) the teacher's x0
    x_fake: Tensor,  # (B, F, C, h, w) the critic's x0
) -> Tensor:
    """Return the gradient on ``x``, (B, F, C, h, w), normalised per sample; 0 where it is not a number."""
    scale = (x - x_real).abs().mean((1, 2, 3, 4), keepdim=True)
    return torch.nan_to_num((x_fake - x_real) / scale, nan=0.0, posinf=0.0, neginf=0.0)


def dmd_loss(
    x: Tensor,  # (B, F, C, h, w), with gradients
    gradient: Tensor,  # (B, F, C, h, w)
) -> Tensor:
    """Return a loss whose derivative by ``x`` is ``gradient`` over the number of elements."""
    goal = (x - gradient).detach()
    return 0.5 * (x.double() - goal.double()).square().mean().float()
