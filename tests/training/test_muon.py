"""Muon in batches against PyTorch's, one matrix at a time."""

from __future__ import annotations

import torch
from torch import nn

from worldenv.training.loop.muon import Muon, orthogonalised

SETTINGS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
SHAPES = ((48, 16), (16, 48), (48, 16), (16, 16))


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]


def test_steps_and_state_are_those_of_pytorch() -> None:
    ours, theirs = parameters(), parameters()
    batched, single = Muon(ours, **SETTINGS), torch.optim.Muon(theirs, **SETTINGS)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(*a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours[3].grad = theirs[3].grad = None  # nothing to learn from this time
        batched.step()
        single.step()
    for start, a, b in zip(parameters(), ours, theirs, strict=True):
        moved = (b - start).norm()
        assert (a - b).norm() <= 0.02 * moved  # PyTorch rounds to bfloat16
    assert torch.equal(ours[3], parameters()[3])
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(batched.state[a]["momentum_buffer"], single.state[b]["momentum_buffer"])


def test_singular_values_come_near_one() -> None:
    some = torch.randn(3, 12, 30, generator=torch.Generator().manual_seed(2))
    made = orthogonalised(some, coefficients=(3.4445, -4.7750, 2.0315), steps=5, eps=1e-7)
    values = torch.linalg.svdvals(made)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    assert made.dtype == torch.float32
