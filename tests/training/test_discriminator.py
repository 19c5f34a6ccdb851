"""The discriminator of stage ``context_forcing``: what it learns, and where it pushes."""

from pathlib import Path

import pytest
import torch

from tests.training.test_context_forcing import make_stage
from worldenv.engine.world import World
from worldenv.training.context_forcing import ContextForcingConfig, ContextForcingStage
from worldenv.training.discriminator import detection_loss, push
from worldenv.training.loop import OptimConfig, Trainer


@pytest.fixture
def stage(tiny_world: World) -> ContextForcingStage:
    return make_stage(tiny_world, adversarial=0.5, max_history=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_verdicts_are_counted_ties_by_half() -> None:
    margin = torch.tensor([2.0, -1.0, 0.0, 3.0])
    loss, right = detection_loss(margin)
    assert right == pytest.approx(2.5 / 4)
    assert float(loss) == pytest.approx(float(margin.neg().exp().log1p().mean()))


def test_a_push_goes_towards_what_was_recorded_as_far_as_verdicts_are_right() -> None:
    real, x = torch.zeros(2, 3, 1, 2, 2), torch.ones(2, 3, 1, 2, 2, requires_grad=True)
    gradient = torch.tensor([0.25, -0.5]).view(2, 1, 1, 1, 1).expand_as(x)
    margin = (x - real).flatten(2).mean(2)  # right everywhere, less so the nearer x is
    found = push(margin, x, gradient)
    torch.testing.assert_close(found, gradient.abs(), msg="each row as large as its own gradient")
    half = margin * torch.tensor([[1.0], [-1.0]])  # wrong in one row of two: guesses
    assert float(push(half, x, gradient).abs().max()) == 0
    blind = margin.detach() + 0 * x.mean()
    assert float(push(blind, x, gradient).abs().max()) == 0, "one that does not look at x says nothing of it"


def test_it_learns_and_its_critic_has_the_error_it_had(stage: ContextForcingStage) -> None:
    assert stage.discriminator is not None
    assert stage.critic.module is stage.discriminator
    segment, x = stage._draw_rollout(generator(3))
    error, margin = stage._told_apart(segment, x.detach(), generator(5))
    torch.testing.assert_close(error, stage._flow_error(stage.fake, segment, x.detach(), generator(5)))
    assert not margin.any(), "the last layer begins at 0"
    optimizer = torch.optim.AdamW(stage.discriminator.parameters(), lr=2e-3)
    draws = generator()
    for _ in range(25):
        loss, _ = stage.critic_loss(draws)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    rights = [stage.critic_loss(draws)[1]["detected"] for _ in range(4)]
    assert sum(rights) / 4 > 0.75


def test_it_moves_the_student_and_is_not_moved_by_it(
    stage: ContextForcingStage, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_apart = stage._told_apart

    def sure(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        error, margin = told_apart(*arguments)  # type: ignore[arg-type]
        return error, margin + 100

    assert stage.discriminator is not None
    torch.nn.init.normal_(stage.discriminator.head[-1].weight)
    monkeypatch.setattr(stage, "_told_apart", sure)
    alone = make_stage(tiny_world, max_history=2)
    for one in (stage, alone):
        one.loss(generator())[0].backward()
    assert all(p.grad is None for p in stage.discriminator.parameters())
    with_it, without = (
        torch.cat([p.grad.flatten() for p in one.module.parameters() if p.grad is not None]) for one in (stage, alone)
    )
    assert (with_it - without).norm() > 0.05 * without.norm()
    monkeypatch.setattr(stage, "_told_apart", told_apart)
    torch.nn.init.zeros_(stage.discriminator.head[-1].weight)
    stage.module.zero_grad()
    stage.loss(generator())[0].backward()
    same = torch.cat([p.grad.flatten() for p in stage.module.parameters() if p.grad is not None])
    torch.testing.assert_close(same, without, msg="verdicts that are guesses say nothing")


def test_without_it_nothing_changes(tiny_world: World) -> None:
    stage = make_stage(tiny_world)
    assert stage.discriminator is None
    assert stage.critic.module is stage.fake


def test_it_is_in_the_checkpoint(tiny_world: World, tmp_path: Path) -> None:
    optim = OptimConfig(steps=2, batch=4, save_every=1, preview_every=0, mixed_precision="no", ema=0.5)
    whole = make_stage(tiny_world, adversarial=0.5, max_history=1, critic_updates=1)
    Trainer(whole, optim, tmp_path / "whole", resume=False, run={}).train()
    for steps in (1, 2):
        part = make_stage(tiny_world, adversarial=0.5, max_history=1, critic_updates=1)
        once = OptimConfig(**{**vars(optim), "steps": steps, "warmup": optim.warmup})
        Trainer(part, once, tmp_path / "parts", resume=True, run={}).train()
    assert whole.discriminator is not None
    assert part.discriminator is not None
    for (name, a), b in zip(whole.discriminator.state_dict().items(), part.discriminator.state_dict().values()):
        torch.testing.assert_close(a, b, msg=name)
    assert whole.discriminator.head[-1].weight.any()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"adversarial": -1.0}, "adversarial=-1.0"),
        ({"adversarial": 1.0, "discriminator_weight": 0.0}, "discriminator_weight=0.0"),
        ({"adversarial": 1.0, "source": "self"}, "source = 'data'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ContextForcingConfig(**settings)  # type: ignore[arg-type]
