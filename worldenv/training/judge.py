"""A judge of recorded against generated segments, beside the two scores of distribution matching.

A head on the critic's transformer tells, token by token, which of two noised segments after the same history was
recorded (DMD2, arXiv 2405.14867, section 4.3; relativistic: arXiv 2501.05441, section 2). Where the teacher's score
knows little, recordings still do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.dit import WorldDiT

GAIN = 32.0
"""By how much the head's last layer counts more: it begins at 0 and has to learn as fast as trained layers change."""


class Judge(nn.Module):
    """A transformer with a head that says how recorded each token looks."""

    def __init__(self, dit: WorldDiT) -> None:
        super().__init__()
        width = dit.config.width
        self.dit = dit
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)

    def forward(
        self,
        features: Tensor,  # (B, F, S, width) of the transformer
    ) -> Tensor:
        """Return a logit per token, (B, F, S) float32."""
        logits: Tensor = GAIN * self.head(features).float().squeeze(-1)
        return logits


def judging_loss(
    margin: Tensor,  # (...) logits of what was recorded minus those of what was generated
) -> tuple[Tensor, float]:
    """Return the loss of a judge, and its share of right verdicts, a tie being half of one."""
    right = (margin > 0).float() + 0.5 * (margin == 0).float()
    return F.softplus(-margin).mean(), float(right.mean())


def push(
    margin: Tensor,  # (B, ...), with gradients to x
    x: Tensor,  # (B, F, C, h, w) what was generated
    gradient: Tensor,  # (B, F, C, h, w) of distribution matching
) -> Tensor:
    """Return the gradient on ``x`` that makes it look recorded, (B, F, C, h, w).

    Per sample as large as ``gradient`` where all verdicts are right, and nothing where they are guesses.
    """
    (found,) = torch.autograd.grad(F.softplus(margin).sum(), x)
    sure = 2 * judging_loss(margin.detach())[1] - 1
    size = gradient.abs().mean((1, 2, 3, 4), keepdim=True) / found.abs().mean((1, 2, 3, 4), keepdim=True)
    return torch.nan_to_num(max(0.0, sure) * size * found, nan=0.0, posinf=0.0, neginf=0.0)
