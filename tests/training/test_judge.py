"""The judge of stage ``context_forcing``: what it learns, and where it pushes."""

import pytest
import torch

from tests.training.test_context_forcing import make_stage
from worldenv.engine.world import World
from worldenv.training.context_forcing import ContextForcingStage
from worldenv.training.judge import judging_loss, push


@pytest.fixture
def stage(tiny_world: World) -> ContextForcingStage:
    return make_stage(tiny_world, adversarial=0.5, max_history=2)


def test_verdicts_are_counted_ties_by_half() -> None:
    loss, right = judging_loss(torch.tensor([2.0, -1.0, 0.0, 3.0]))
    assert right == pytest.approx(2.5 / 4)
    assert float(loss) == pytest.approx(float(torch.tensor([2.0, -1.0, 0.0, 3.0]).neg().exp().log1p().mean()))


def test_a_push_goes_towards_what_was_recorded_as_far_as_verdicts_are_right() -> None:
    real, x = torch.zeros(2, 3, 1, 2, 2), torch.ones(2, 3, 1, 2, 2, requires_grad=True)
    gradient = torch.full_like(x, 0.25).detach()
    margin = (x - real).flatten(2).mean(2)  # right everywhere, less so the nearer x is
    found = push(margin, x, gradient)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))
    half = margin * torch.tensor([[1.0], [-1.0]])  # wrong in one row of two: guesses
    assert float(push(half, x, gradient).abs().max()) == 0
    untouched = push((margin + 0 * x.sum()).detach() + 0 * x.mean(), x, gradient)
    assert float(untouched.abs().max()) == 0, "a judge that does not look at x says nothing of it"


def test_the_judge_learns_and_the_critic_still_scores(stage: ContextForcingStage) -> None:
    assert stage.judge is not None
    assert stage.critic.module is stage.judge
    optimizer = torch.optim.AdamW(stage.judge.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    first = stage.critic_loss(torch.Generator().manual_seed(9))[1]["judged"]
    assert first == pytest.approx(0.5), "its last layer begins at 0"
    for _ in range(25):
        loss, _ = stage.critic_loss(generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    rights = [stage.critic_loss(generator)[1]["judged"] for _ in range(4)]
    assert sum(rights) / 4 > 0.75


def test_the_students_loss_leaves_the_judge_alone(stage: ContextForcingStage) -> None:
    assert stage.judge is not None
    loss, _ = stage.loss(torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is None for p in stage.judge.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in stage.module.parameters())


def test_without_it_nothing_changes(tiny_world: World) -> None:
    stage = make_stage(tiny_world)
    assert stage.judge is None
    assert stage.critic.module is stage.fake
