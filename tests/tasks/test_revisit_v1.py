"""Who is led away by a way that differs from episode to episode finds back by looking, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from worldenv.bodies.camera import Camera
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.pose import look
from worldenv.tasks.base import Outcome, Start, TaskState
from worldenv.tasks.revisit_v1 import Revisit

SPEC, NUM = WorldSpec(), 6
STAND_STILL, FORWARD, BACK, RIGHT, LEFT = range(5)
UNDO = {FORWARD: BACK, RIGHT: LEFT, LEFT: RIGHT}
VIEW = torch.randint(0, 256, (NUM, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Plain:
    """A floor without walls, where one goes as one is told, and sees the first view only where it was seen."""

    def __init__(self, task: Revisit, seeds: tuple[int, ...] = tuple(range(NUM))) -> None:
        self.task = task
        self.c2w = look(torch.tensor([1.0, -1.6, 2.0]).double(), torch.tensor(0.3).double()).repeat(NUM, 1, 1)
        self.start = self.c2w
        self.state = task.reset(Start(VIEW, {"c2w": self.c2w}, {}, None, seeds))

    def step(self, actions: list[int]) -> tuple[Outcome, Track]:
        told = Camera().command(torch.tensor(actions), "basic5", {"c2w": self.c2w}, SPEC)
        made = self.task.command(self.state, told, {"c2w": self.c2w}, SPEC)
        self.c2w = made["c2w"][:, -1]
        outcome = self.task.step(self.state, Chunk(VIEW[:, None], {"c2w": made["c2w"]}))
        self.state = outcome.state
        return outcome, made


def led(world: Plain) -> list[list[int]]:
    """Stand still until all rows are let go; return what each was made to do."""
    done: list[list[int]] = [[] for _ in range(NUM)]
    for _ in range(world.task.most):
        free = world.state["free"].clone()
        _, made = world.step([STAND_STILL] * NUM)
        for row in (~free).nonzero()[:, 0].tolist():
            move, turn = made["keys"][row, 0].tolist()
            done[row].append({(1, 0): FORWARD, (0, 1): RIGHT, (0, 2): LEFT}[(move, turn)])
    return done


def test_one_is_led_away_whatever_one_asks_for_and_differently_each_time() -> None:
    asked = [Plain(Revisit()), Plain(Revisit())]
    ways = led(asked[0])
    for _ in range(asked[1].task.most):
        asked[1].step([FORWARD] * NUM)
    for row, way in enumerate(ways):
        assert 3 <= len(way) <= 12
        assert float((asked[0].c2w[row, :3, 3] - asked[0].start[row, :3, 3]).norm()) >= 1.5
        assert asked[1].state["led"][row] == len(way), "one's own actions change nothing"
    assert len({tuple(way) for way in ways}) == NUM
    assert len({len(way) for way in ways}) > 1
    other = Plain(Revisit(), tuple(range(50, 50 + NUM)))
    assert led(other) != ways


def test_who_takes_back_the_way_gets_the_reward_once_and_ends() -> None:
    world = Plain(Revisit())
    ways = led(world)
    paid = np.zeros(NUM)
    ended = torch.zeros(NUM, dtype=torch.bool)
    for _ in range(max(map(len, ways))):
        outcome, _ = world.step([STAND_STILL if e or not way else UNDO[way.pop()] for e, way in zip(ended, ways)])
        paid += outcome.reward.numpy() * ~ended.numpy()
        ended |= outcome.terminated
    assert ended.all()
    assert paid == pytest.approx(np.ones(NUM))


def test_no_open_loop_brings_many_back() -> None:
    """Turning on the spot passes every heading, and none of them is where one came from."""
    for script in ([RIGHT], [RIGHT] * 4 + [FORWARD] * 2, [BACK], [BACK, RIGHT]):
        world, ended = Plain(Revisit()), torch.zeros(NUM, dtype=torch.bool)
        for i in range(40):
            ended |= world.step([script[i % len(script)]] * NUM)[0].terminated
        assert float(ended.double().mean()) <= 0.5, script


def test_passing_the_start_while_one_is_led_is_no_return() -> None:
    task = Revisit(least=(6, 6))
    world = Plain(task)
    there, away = (
        world.start,
        look(torch.tensor([1.0, -1.6, 9.0]).double(), torch.tensor(0.3).double()).expand(NUM, 4, 4),
    )

    def visit(c2w: Tensor) -> TaskState:
        outcome = task.step(world.state, Chunk(VIEW[:, None], {"c2w": c2w[:, None]}))
        assert not outcome.terminated.any()
        return outcome.state

    for c2w in (away, there, away, there, away, away):
        world.state = visit(c2w)
    assert world.state["free"].all()
    assert task.step(world.state, Chunk(VIEW[:, None], {"c2w": there[:, None]})).terminated.all()


def test_seeds_are_needed_and_options_are_checked() -> None:
    with pytest.raises(ValueError, match="by seeds"):
        Revisit().reset(Start(VIEW, {"c2w": Plain(Revisit()).c2w}, {}))
    with pytest.raises(ValueError, match="least"):
        Revisit(least=(4, 20))
