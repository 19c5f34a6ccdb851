"""A discriminator's part in a loss: deceived by what is trained, trained along, and kept in proportion."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_BALANCE = 0.1
"""Largest weight of the discriminator's gradient: while it knows nothing, its gradient is small and is noise."""


def adversarial_loss(
    discriminator: nn.Module,
    real: Tensor,  # (B, ...)
    made: Tensor,  # (B', ...)
    reconstruction: Tensor,  # ()
    last: Tensor,  # weights of the last layer of what made it
    *,
    strength: float,
    largest: float = MAX_BALANCE,
) -> tuple[Tensor, dict[str, float]]:
    """Return what is added to a reconstruction loss, and figures to log: neither side moves the other.

    The gradient of being found out is scaled to ``strength`` times the reconstruction's, by their norms at the last
    layer (Esser et al. 2021, section 3.1), and weighs ``largest`` at most.
    """
    discriminator.requires_grad_(False)
    deceit = F.softplus(-discriminator(made)).mean()
    discriminator.requires_grad_(True)
    norms = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, deceit))
    a, b = norms
    weight = strength * (a / (b + 1e-6)).clamp(max=largest)
    found, missed = discriminator(real), discriminator(made.detach())
    detection = F.softplus(-found).mean() + F.softplus(missed).mean()
    figures = {"deceit": float(deceit.detach()), "detection": float(detection.detach()), "weight": float(weight)}
    return weight * deceit + detection, figures
