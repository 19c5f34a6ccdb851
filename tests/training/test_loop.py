import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.base.log import JsonlLog
from worldenv.training.loop.optim import OptimConfig, learning_rate
from worldenv.training.loop.protocols import Critic
from worldenv.training.loop.trainer import Trainer


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
    assert float(stage.module.weight.detach()) == pytest.approx(3, abs=0.2)  # type: ignore[arg-type]
    assert float(stage.module.weight.detach()) == trainer.ema.module.weight.item()  # type: ignore[arg-type, operator]
    assert len(stage.shown) == 2


def test_a_blend_lies_between_where_it_began_and_where_it_came_also_after_resuming(tmp_path: Path) -> None:
    whole, part, resumed = Fit(), Fit(), Fit()
    Trainer(whole, CONFIG, tmp_path / "whole", resume=False, run={}).train()
    blended = dataclasses.replace(CONFIG, blend=0.25)
    Trainer(part, blended, tmp_path / "part", resume=False, run={}).train()
    Trainer(resumed, blended, tmp_path / "whole", resume=True, run={}).train()
    came, blend, again = (float(fit.module.weight.detach()) for fit in (whole, part, resumed))  # type: ignore[arg-type]
    assert blend == pytest.approx(0.25 * came)
    assert again == blend


def test_the_best_cannot_be_chosen_without_evaluations_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preview_every=0"):
        Trainer(Fit(), dataclasses.replace(CONFIG, preview_every=0), tmp_path, resume=False, run={}, evaluate=dict)
    with pytest.raises(ValueError, match="patience waits for a better evaluation, and there is none"):
        Trainer(Fit(), dataclasses.replace(CONFIG, patience=5), tmp_path, resume=False, run={})


def test_a_step_without_finite_gradient_is_skipped(tmp_path: Path) -> None:
    stage = Fit(poison=5)
    Trainer(stage, CONFIG, tmp_path, resume=False, run={}).train()
    assert float(stage.module.weight.detach()) == pytest.approx(3, abs=0.2)  # type: ignore[arg-type]


def test_previews_do_not_disturb_training(tmp_path: Path) -> None:
    results = []
    for name, every in (("a", 7), ("b", 1000)):
        stage = Fit()
        Trainer(stage, dataclasses.replace(CONFIG, preview_every=every), tmp_path / name, resume=False, run={}).train()
        results.append(float(stage.module.weight.detach()))  # type: ignore[arg-type]
    assert results[0] == results[1]


class Duel(Fit):
    """Fit the critic's weight to 3 and the module's to the critic's; the step drives a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.other.weight)
        self.critic = Critic(self.other, self.critic_loss, updates=3, lr_scale=0.5)
        self.begun: list[int] = []
        self.turns: list[str] = []

    def begin(self, step: int) -> None:
        self.begun.append(step)

    def critic_loss(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        self.turns.append("critic")
        x = torch.randn(8, 1, generator=generator)
        return (self.other(x) - 3 * x).square().mean(), {"x": float(x.mean())}

    def loss(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        self.turns.append("module")
        x = torch.randn(8, 1, generator=generator)
        return (self.module(x) - self.other(x).detach()).square().mean(), {}


def test_a_critic_learns_by_turns_and_both_are_in_the_checkpoint(tmp_path: Path) -> None:
    stage = Duel()
    config = dataclasses.replace(CONFIG, log_every=1, warmup=4)
    Trainer(stage, config, tmp_path, resume=False, run={}).train()
    assert stage.begun == list(range(60))
    assert stage.turns == ["critic", "critic", "critic", "module"] * 60
    assert stage.other.weight.item() == pytest.approx(3, abs=0.2)
    assert stage.module.weight.item() == pytest.approx(3, abs=0.3)  # type: ignore[operator]
    tensors, _ = load_tensors(tmp_path / "checkpoint.safetensors")
    assert {"module.weight", "ema.weight", "critic.module.weight", "critic.optimizer0.0.exp_avg"} <= set(tensors)
    assert tensors["critic.optimizer0.0.step"].item() == 180
    assert {"loss", "critic_loss", "critic_x", "critic_grad_norm"} <= set(JsonlLog.read(tmp_path / "log.jsonl")[0])


class Chase(Fit):
    """The loss needs the weights' moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.target = self.module
        self.weights: list[float] = []
        self.averages: list[float] = []

    def loss(self, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        self.weights.append(self.module.weight.item())  # type: ignore[operator]
        self.averages.append(self.target.weight.item())  # type: ignore[operator]
        return super().loss(generator)


def test_a_target_holds_the_moving_average_also_after_resuming(tmp_path: Path) -> None:
    whole, parts = Chase(), Chase()
    Trainer(whole, CONFIG, tmp_path / "whole", resume=False, run={}).train()
    expected = [0.0]
    for update, weight in enumerate(whole.weights[1:], 1):
        decay = min(CONFIG.ema, (1 + update) / (10 + update))
        expected.append(decay * expected[-1] + (1 - decay) * weight)
    assert whole.averages == pytest.approx(expected, rel=1e-5)
    Trainer(parts, dataclasses.replace(CONFIG, steps=30), tmp_path / "parts", resume=False, run={}).train()
    again = Chase()
    Trainer(again, CONFIG, tmp_path / "parts", resume=True, run={}).train()
    assert parts.averages + again.averages == whole.averages


def test_a_checkpoint_counts_what_its_average_has_seen(tmp_path: Path) -> None:
    """Checkpoints written before resume: an average is of as many updates as they say, and moves on from there."""
    half = dataclasses.replace(CONFIG, steps=30)
    Trainer(Fit(), half, tmp_path, resume=False, run={}).train()
    tensors, header = load_tensors(tmp_path / "checkpoint.safetensors")
    assert tensors["ema.weight"].item() != tensors["module.weight"].item()
    assert header["progress"]["ema_updates"] == 30
    header["progress"]["ema_updates"] = 2  # the next moves with a decay of 4 / 13
    save_tensors(tmp_path / "checkpoint.safetensors", tensors, header=header)
    resumed = Trainer(Fit(), dataclasses.replace(half, steps=31), tmp_path, resume=True, run={})
    resumed.train()
    now, _ = load_tensors(tmp_path / "checkpoint.safetensors")
    expected = 4 / 13 * tensors["ema.weight"] + 9 / 13 * now["module.weight"]
    torch.testing.assert_close(now["ema.weight"], expected)


def score_of(stage: Fit, wanted: float) -> Callable[[], dict[str, float]]:
    return lambda: {"score": -abs(stage.module.weight.item() - wanted)}  # type: ignore[operator]


def test_the_best_evaluation_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    """The weight passes 1 on its way to 3; the run ends 20 steps after it was nearest and keeps that."""
    config = dataclasses.replace(CONFIG, preview_every=2, patience=20, ema=0.0)
    stage = Fit()
    trainer = Trainer(stage, config, tmp_path, resume=False, run={}, evaluate=score_of(stage, 1.0))
    trainer.train()
    assert trainer.kept_step < trainer.step == trainer.kept_step + 20 < 60
    assert stage.module.weight.item() == pytest.approx(1, abs=0.15)  # type: ignore[operator]
    scores = {line["step"]: line["score"] for line in JsonlLog.read(tmp_path / "log.jsonl") if "score" in line}
    assert min(scores) == 0, "what it starts from counts"
    assert max(scores, key=lambda step: scores[step]) == trainer.kept_step
    again = Fit()
    resumed = Trainer(again, config, tmp_path, resume=True, run={}, evaluate=score_of(again, 1.0))
    resumed.train()
    assert (resumed.step, resumed.kept_step) == (trainer.step, trainer.kept_step), "it stays ended"
    assert again.module.weight.item() == stage.module.weight.item()  # type: ignore[operator]


def test_what_is_judged_is_what_would_be_kept(tmp_path: Path) -> None:
    """With half of the way taken, the weight is best at 1 when training has brought it to 2."""
    config = dataclasses.replace(CONFIG, preview_every=1, ema=0.0, blend=0.5)
    stage = Fit()
    trainer = Trainer(stage, config, tmp_path, resume=False, run={}, evaluate=score_of(stage, 1.0))
    trainer.train()
    assert trainer.best["weight"].item() == pytest.approx(2, abs=0.15)
    assert stage.module.weight.item() == pytest.approx(1, abs=0.08)  # type: ignore[operator]


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(
        Fit(), CONFIG, tmp_path, resume=False, run={}, evaluate=lambda: {"seen": float("nan"), "score": float("nan")}
    )
    with pytest.raises(ValueError, match=r"step 0: the score is not a number; figures: .*seen"):
        trainer.train()


def test_what_was_best_at_the_start_is_kept(tmp_path: Path) -> None:
    stage = Fit()
    trainer = Trainer(stage, CONFIG, tmp_path, resume=False, run={}, evaluate=score_of(stage, 0.0))
    trainer.train()
    assert (trainer.step, trainer.kept_step) == (60, 0)
    assert stage.module.weight.item() == 0  # type: ignore[operator]


def test_parts_of_a_batch_add_up_to_one_step(tmp_path: Path) -> None:
    """One part draws what a run without parts does; two are two draws and one step."""
    plain, parts = Fit(), Fit()
    Trainer(plain, dataclasses.replace(CONFIG, steps=5), tmp_path / "plain", resume=False, run={}).train()
    config = dataclasses.replace(CONFIG, steps=5, accumulate=2)
    Trainer(parts, config, tmp_path / "parts", resume=False, run={}).train()
    assert (plain.calls, parts.calls) == (5, 10)
    logs = [JsonlLog.read(tmp_path / name / "log.jsonl") for name in ("plain", "parts")]
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    assert len(losses[0]) == len(losses[1]) == 1
    assert losses[0] != losses[1]


def test_exploding_steps_are_skipped_and_counted(tmp_path: Path) -> None:
    stage = Fit(poison=2)
    config = dataclasses.replace(CONFIG, steps=3, log_every=1, preview_every=0, skip_above=1e-9)
    Trainer(stage, config, tmp_path, resume=False, run={}).train()
    assert [line["skipped"] for line in JsonlLog.read(tmp_path / "log.jsonl")] == [1, 2, 3]
    assert float(stage.module.weight.detach()) == 0  # type: ignore[arg-type]
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["progress"]["skipped"] == 3
