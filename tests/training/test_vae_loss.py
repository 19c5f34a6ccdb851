"""What the VAE is told it got wrong."""

from __future__ import annotations

import torch

from worldenv.training.stages.vae import hardest_loss


def test_the_worst_hundredth_of_pixels_counts_for_itself() -> None:
    """A lost ball of 12 pixels among 1,200 costs the same in any picture, where a mean over all gives a hundredth."""
    truth = torch.zeros(2, 3, 3, 30, 40)
    truth[1, 1, :, 4:7, 8:12] = 1
    lost = torch.zeros_like(truth)
    assert hardest_loss(lost[1, 1], truth[1, 1]) == 1
    assert torch.isclose((lost - truth)[1, 1].square().mean(), torch.tensor(0.01))
    assert torch.isclose(hardest_loss(lost, truth), torch.tensor(1 / 6))
    assert hardest_loss(truth, truth) == 0
    assert hardest_loss(torch.ones(3, 4, 4), torch.zeros(3, 4, 4)) == 1  # one pixel at least
