import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.dynamics.protocol import Chunk
from worldenv.geometry.pose import look
from worldenv.tasks.base import Start
from worldenv.tasks.navigate import Navigate, distance_and_angle, goal_vector
from worldenv.tasks.registry import TASKS, make_task


def pose(x: float, z: float, yaw_deg: float = 0.0) -> torch.Tensor:
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([x, -1.6, z], math.radians(yaw_deg))))[None]


def seen(c2w: torch.Tensor) -> Chunk:
    return Chunk(torch.zeros(len(c2w), 1, 2, 2, 3, dtype=torch.uint8), {"c2w": c2w[:, None]})


def begin(task: Navigate, start: torch.Tensor, goal: torch.Tensor) -> dict[str, torch.Tensor]:
    view = torch.zeros(len(start), 2, 2, 3, dtype=torch.uint8)
    return task.reset(Start(view, {"c2w": start}, {"c2w": goal}))


coordinates = st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(-180, 180))


@given(st.lists(coordinates, min_size=2, max_size=8), coordinates, st.sampled_from([180.0, 30.0]))
@settings(max_examples=40, deadline=None)
def test_rewards_add_up_to_the_potential_gained_plus_success(
    path: list[tuple[float, float, float]], goal: tuple[float, float, float], tolerance: float
) -> None:
    task, target = Navigate(angle_tolerance_deg=tolerance), pose(*goal)
    poses = [pose(*p) for p in path]
    state, total, successes = begin(task, poses[0], target), 0.0, 0.0
    for c2w in poses[1:]:
        outcome = task.step(state, seen(c2w))
        state, total = outcome.state, total + float(outcome.reward)
        successes += float(outcome.success)
    gained = task.potential(poses[-1], target) - task.potential(poses[0], target)
    assert total == pytest.approx(float(gained) + successes, abs=1e-9)


def test_arriving_ends_the_episode_and_pays_one() -> None:
    task = Navigate()
    state = begin(task, pose(0, 0), pose(0, 3))
    outcome = task.step(state, seen(pose(0, 2.39)))
    assert not outcome.terminated
    assert float(outcome.reward) == pytest.approx(2.39 / 4)
    outcome = task.step(outcome.state, seen(pose(0, 2.41)))
    assert bool(outcome.terminated)
    assert bool(outcome.success)
    assert float(outcome.reward) == pytest.approx(0.02 / 4 + 1)


def test_a_direction_counts_only_where_one_is_asked_for() -> None:
    away = pose(0, 3, 90)
    free, strict = Navigate(), Navigate(angle_tolerance_deg=45)
    assert bool(free.step(begin(free, pose(0, 0), pose(0, 3)), seen(away)).success)
    assert not bool(strict.step(begin(strict, pose(0, 0), pose(0, 3)), seen(away)).success)
    assert float(strict.potential(away, pose(0, 3))) == pytest.approx(-0.25 / 2)
    assert float(free.potential(away, pose(0, 3))) == 0


def test_rows_are_judged_apart() -> None:
    task = Navigate()
    start, goal = torch.cat([pose(0, 0), pose(0, 0)]), torch.cat([pose(0, 3), pose(5, 0)])
    outcome = task.step(begin(task, start, goal), seen(torch.cat([pose(0, 3), pose(0, 3)])))
    assert outcome.terminated.tolist() == [True, False]
    assert float(outcome.reward[1]) == pytest.approx((5 - math.hypot(5, 3)) / 4)


def test_distance_and_angle() -> None:
    distance, angle = distance_and_angle(pose(0, 0, 10), pose(3, 4, -50))
    assert float(distance) == pytest.approx(5)
    assert math.degrees(float(angle)) == pytest.approx(60)


def test_goal_vector_is_in_the_camera_frame() -> None:
    """Right, up, forward in metres and yaw: looking along +x, a goal at +z is to the left."""
    goal = pose(0, 2, 0)
    goal[0, 1, 3] = -2.6  # one metre up
    found = goal_vector(pose(0, 0, 90), goal)
    torch.testing.assert_close(found, torch.tensor([[-2.0, 1.0, 0.0, -math.pi / 2]]), atol=1e-6, rtol=0)
    assert found.dtype == torch.float32


def test_the_registry_lists_its_tasks_and_options() -> None:
    with pytest.raises(ValueError, match=", ".join(TASKS)):
        make_task("fly")
    with pytest.raises(ValueError, match="tolerance"):
        make_task("navigate", {"tolerence": 1.0})
    task = make_task("navigate", {"tolerance": 1})
    assert task == Navigate(tolerance=1.0)
    assert task.defaults.needs_goal
    assert make_task("worldenv.tasks.navigate:Navigate", {"tolerance": 1}) == make_task(task) == task
    with pytest.raises(ValueError, match="did you mean 'navigate'"):
        make_task("navigat")
    with pytest.raises(ValueError, match="give it its options itself"):
        make_task(task, {"tolerance": 2})
