"""A discriminator of recorded against generated segments, beside the two scores of distribution matching.

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
"""Multiplies the logits: Adam's steps of the learning rate would move a layer that begins at 0 too slowly."""


class SegmentDiscriminator(nn.Module):
    """A head on a critic's features; it holds the critic, so that one optimizer and one checkpoint cover both."""

    def __init__(self, dit: WorldDiT) -> None:
        super().__init__()
        width = dit.config.width
        self.dit = dit
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), last)

    def forward(
        self,
        features: Tensor,  # (B, F, S, width), what the critic reads its velocity from
    ) -> Tensor:
        """Return a logit per token, (B, F, S) float32: the larger, the more it looks recorded."""
        logits: Tensor = GAIN * self.head(features).float().squeeze(-1)
        return logits


def detection_loss(
    margin: Tensor,  # (...) logits of what was recorded minus those of what was generated
) -> tuple[Tensor, float]:
    """Return the discriminator's loss and its share of right verdicts, a tie being half of one."""
    return F.softplus(-margin).mean(), float(_right(margin).mean())


def push(
    margin: Tensor,  # (B, F, S), with gradients to x
    x: Tensor,  # (B, F, C, h, w) what was generated
    gradient: Tensor,  # (B, F, C, h, w) of distribution matching
) -> Tensor:
    """Return the gradient on ``x`` that makes it look recorded, (B, F, C, h, w).

    A sample's is as large as its ``gradient`` if all verdicts of the batch are right, nothing if they are guesses.
    """
    (found,) = torch.autograd.grad(F.softplus(margin).sum(), x)
    sure = (2 * _right(margin.detach()).mean() - 1).clamp(min=0)
    size = gradient.abs().mean((1, 2, 3, 4), keepdim=True) / found.abs().mean((1, 2, 3, 4), keepdim=True)
    return torch.nan_to_num(sure * size * found, nan=0.0, posinf=0.0, neginf=0.0)


def _right(margin: Tensor) -> Tensor:
    return (margin > 0).float() + 0.5 * (margin == 0).float()
