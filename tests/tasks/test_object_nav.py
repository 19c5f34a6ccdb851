"""ObjectNav: what is asked for, when one is there, and what it pays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from worldenv.dynamics.labels import CLASSES
from worldenv.dynamics.protocol import Chunk
from worldenv.geometry.pose import look
from worldenv.tasks.base import Start, TaskState
from worldenv.tasks.object_nav import ObjectNav
from worldenv.tasks.registry import make_task

OBJECTS = torch.tensor([[[3.0, -0.5, 4.0, 0.5, 5.0], [11.0, 6.0, -1.0, 7.0, 1.0]]], dtype=torch.float64)
"""One straight ahead of the origin, one to its right."""


def pose(x: float, z: float, yaw_deg: float = 0.0) -> Tensor:
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([x, -1.6, z], math.radians(yaw_deg))))[None]


def begin(task: ObjectNav, c2w: Tensor) -> TaskState:
    return task.reset(Start(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), {"c2w": c2w}, {"objects": OBJECTS}))


def seen(c2w: Tensor) -> Chunk:
    return Chunk(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), {"c2w": c2w[:, None]})


@pytest.mark.parametrize(("variant", "class_idx"), [("out_of_view", 3), ("in_view", 11)])
def test_the_class_is_named_and_nothing_of_where_it_is(variant: str, class_idx: int) -> None:
    task = make_task("object_nav", {"variant": variant})
    assert isinstance(task, ObjectNav)
    near, far = (task.observe(begin(task, c2w), {})["goal"] for c2w in (pose(0, 3), pose(-9, -9, 50)))
    assert near.argmax() == class_idx
    assert near.sum() == 1
    assert near.shape == (1, len(CLASSES))
    assert torch.equal(near, far)


def test_one_has_to_stand_before_it_and_face_it() -> None:
    task = ObjectNav()
    state = begin(task, pose(0, 0))
    outcome = task.step(state, seen(pose(0, 2.9)))
    assert not outcome.terminated
    assert float(outcome.reward) == pytest.approx(2.9 / 4)
    away = task.step(outcome.state, seen(pose(0, 3.1, yaw_deg=61)))
    assert not away.terminated
    assert float(away.reward) == pytest.approx(0.2 / 4)
    there = task.step(away.state, seen(pose(0, 3.1, yaw_deg=59)))
    assert bool(there.terminated)
    assert bool(there.success)
    assert float(there.reward) == pytest.approx(1)


def test_distances_are_those_to_the_footprint() -> None:
    distance, angle = ObjectNav.apart(pose(-3.5, 0), OBJECTS[:, 0, 1:])
    assert float(distance) == pytest.approx(5)
    assert math.degrees(float(angle)) == pytest.approx(math.degrees(math.atan2(3.5, 4.5)))
    assert float(ObjectNav.apart(pose(0, 4.5), OBJECTS[:, 0, 1:])[0]) == 0


def test_a_world_in_which_nobody_saw_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody recorded one here"):
        ObjectNav().reset(Start(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), {"c2w": pose(0, 0)}, {}))
