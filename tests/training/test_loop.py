import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from worldenv.training.loop import OptimConfig, Trainer, learning_rate


def test_learning_rate_warms_up_then_falls_along_a_cosine() -> None:
    config = OptimConfig(steps=100, warmup=10, lr=1.0, lr_final=0.1)
    rates = [learning_rate(s, config) for s in range(101)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


class Fit:
    """Fit a weight to 3; every batch may be poisoned."""

    def __init__(self, poison: int | None = None) -> None:
        self.module: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.poison, self.calls, self.shown = poison, 0, []

    def loss(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        self.calls += 1
        x = torch.randn(8, 1, generator=generator)
        loss = (self.module(x) - 3 * x).square().mean()
        return (loss * float("nan") if self.calls == self.poison else loss), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        self.shown.append(float(self.module.weight.detach()))  # type: ignore[arg-type]
        return {"weight": self.shown[-1]}


CONFIG = OptimConfig(
    steps=60, lr=0.1, lr_final=0.1, warmup=1, weight_decay=0, ema=0.5, preview_every=30, mixed_precision="no"
)


def test_it_learns_and_leaves_the_average_in_the_module(tmp_path: Path) -> None:
    stage = Fit()
    trainer = Trainer(stage, CONFIG, tmp_path, resume=False, run={})
    trainer.train()
    assert float(stage.module.weight) == pytest.approx(3, abs=0.2)  # type: ignore[arg-type]
    assert float(stage.module.weight) == float(trainer.ema.shadow["weight"])  # type: ignore[arg-type]
    assert len(stage.shown) == 2


def test_a_step_without_finite_gradient_is_skipped(tmp_path: Path) -> None:
    stage = Fit(poison=5)
    Trainer(stage, CONFIG, tmp_path, resume=False, run={}).train()
    assert float(stage.module.weight) == pytest.approx(3, abs=0.2)  # type: ignore[arg-type]


def test_previews_do_not_disturb_training(tmp_path: Path) -> None:
    import dataclasses

    results = []
    for name, every in (("a", 7), ("b", 1000)):
        stage = Fit()
        Trainer(stage, dataclasses.replace(CONFIG, preview_every=every), tmp_path / name, resume=False, run={}).train()
        results.append(float(stage.module.weight))  # type: ignore[arg-type]
    assert results[0] == results[1]
