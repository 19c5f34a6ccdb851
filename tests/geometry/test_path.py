import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.geometry.action import ActionSteps, camera_to_c2w
from worldenv.geometry.path import PLANNERS, FreeSpace, Walker, plan_path, undo
from worldenv.geometry.pose import look

CLEARANCE = 0.65
KINDS = ("out_and_back", *PLANNERS)


def rooms() -> FreeSpace:
    """Four rooms of 8 by 8 cells, doors three cells wide (the narrowest corridor of a maze), a pillar in each."""
    free = np.zeros((19, 19), bool)
    for row, column in ((1, 1), (1, 10), (10, 1), (10, 10)):
        free[row : row + 8, column : column + 8] = True
        free[row + 6, column + 1] = False
    free[3:6, 8:11] = free[12:15, 8:11] = free[8:11, 3:6] = free[8:11, 14:17] = True
    return FreeSpace(free, 1.0)


SPACE = rooms()
Planned = tuple[np.ndarray, torch.Tensor, torch.Tensor]


def plan(kind: str, num_latents: int, seed: int, *, pitch: bool = False, steps: ActionSteps | None = None) -> Planned:
    """Return actions, the start pose and the poses they lead to."""
    rng, steps = np.random.default_rng(seed), steps or ActionSteps()
    x, z = SPACE.sample(rng, clearance=CLEARANCE)
    yaw = float(rng.uniform(-math.pi, math.pi))
    walker = Walker(SPACE, x=x, z=z, yaw=yaw, steps=steps, clearance=CLEARANCE)
    actions = plan_path(kind, walker, num_latents, rng, pitch=pitch)  # type: ignore[arg-type]
    start = look(torch.tensor([x, -1.6, z], dtype=torch.float64), torch.tensor(yaw, dtype=torch.float64))
    return actions, start, camera_to_c2w(torch.from_numpy(actions), start, steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_latents", [1, 2, 7, 16, 65])
def test_planners_give_exactly_as_many_actions_as_asked(kind: str, num_latents: int) -> None:
    actions, _, _ = plan(kind, num_latents, seed=num_latents)
    assert actions.shape == (num_latents, 5)
    assert np.abs(actions).max() <= 1 + 1e-9 or kind == "out_and_back"


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**31), pitch=st.booleans(), turn=st.sampled_from([6.0, 11.25, 18.0]))
@settings(max_examples=6, deadline=None)
def test_the_camera_keeps_clear_of_walls_at_every_latent(kind: str, seed: int, pitch: bool, turn: float) -> None:
    steps = ActionSteps(move=0.3, turn_deg=turn)
    _, _, c2w = plan(kind, 48, seed, pitch=pitch, steps=steps)
    for x, _, z in c2w[:, :3, 3].tolist():
        assert SPACE.contains(x, z, clearance=CLEARANCE - 1e-6), (x, z)


@given(seed=st.integers(0, 2**31), pitch=st.booleans(), num_latents=st.integers(2, 41))
@settings(max_examples=15, deadline=None)
def test_out_and_back_mirrors_every_pose(seed: int, pitch: bool, num_latents: int) -> None:
    _, start, c2w = plan("out_and_back", num_latents, seed, pitch=pitch)
    whole = torch.cat([start[None], c2w])
    out = num_latents // 2
    torch.testing.assert_close(whole[: out + 1], whole.flip(0)[: out + 1], atol=1e-9, rtol=0)
    torch.testing.assert_close(c2w[-1], start, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_plans_follow_from_their_seed(kind: str) -> None:
    first, again, other = (plan(kind, 32, seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["out_and_back", "loop", "explore"])
def test_walks_leave_their_start(kind: str) -> None:
    reach = []
    for seed in range(8):
        _, start, c2w = plan(kind, 64, seed)
        reach.append(float((c2w[:, :3, 3] - start[:3, 3]).norm(dim=-1).max()))
    assert min(reach) > 0.5, reach


@pytest.mark.parametrize("kind", ["loop", "explore"])
def test_walks_do_not_stand_still_in_front_of_walls(kind: str) -> None:
    """A walker that cannot reach a point gives it up; the clip is not a still picture."""
    idle = [float((np.abs(plan(kind, 64, seed)[0]).sum(1) < 1e-3).mean()) for seed in range(8)]
    assert max(idle) < 0.5, idle


def test_looking_around_turns() -> None:
    for seed in range(4):
        turns = np.cumsum(plan("look_around", 64, seed)[0][:, 3]) * ActionSteps().turn_deg
        assert np.ptp(turns) >= 89, seed


def test_loops_come_home() -> None:
    """Given time, most loops are away at some moment and near their start at a later one."""
    home = 0
    for seed in range(12):
        _, start, c2w = plan("loop", 300, seed)
        distance = (c2w[:, :3, 3] - start[:3, 3]).norm(dim=-1)
        away = (distance > 2).nonzero().flatten()
        home += len(away) > 0 and bool((distance[int(away[0]) :] < 1.0).any())
    assert home >= 7


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_undo_brings_the_camera_back(forward: float, right: float, yaw: float, pitch: float) -> None:
    action, steps = np.array([forward, right, 0.0, yaw, pitch]), ActionSteps()
    start = look(torch.tensor([1.0, -1.6, 2], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64))
    both = torch.from_numpy(np.stack([action, undo(action, steps)]))
    torch.testing.assert_close(camera_to_c2w(both, start, steps)[-1], start, atol=1e-12, rtol=0)


def test_pitched_paths_end_level_and_stay_within_the_limit() -> None:
    pitched = 0
    for seed in range(6):
        actions, _, _ = plan("explore", 64, seed, pitch=True)
        total = np.cumsum(actions[:, 4]) * ActionSteps().pitch_deg
        assert np.abs(total).max() <= ActionSteps().pitch_limit_deg + 1e-9
        assert total[-1] == 0
        pitched += bool(np.abs(total).max() > 0)
    assert pitched >= 4


class TestFreeSpace:
    def test_contains_looks_at_the_whole_square(self) -> None:
        space = FreeSpace(np.pad(np.ones((3, 3), bool), 1), 1.0)
        assert space.contains(2.5, 2.5, clearance=1.4)
        assert not space.contains(2.5, 2.5, clearance=1.6)
        assert space.contains(1.6, 2.5, clearance=0.5)
        assert not space.contains(1.4, 2.5, clearance=0.5)
        assert not space.contains(-3, 2.5, clearance=0.1)

    def test_axes_are_x_columns_and_z_rows_in_cells(self) -> None:
        free = np.zeros((4, 6), bool)
        free[1, 4] = True
        space = FreeSpace(free, 0.5)
        assert space.contains(4.5 * 0.5, 1.5 * 0.5, clearance=0.1)
        assert not space.contains(1.5 * 0.5, 4.5 * 0.5, clearance=0.1)

    def test_route_is_shortest_and_stays_free(self) -> None:
        route = SPACE.route((2.5, 2.5), (15.5, 16.5), clearance=0.4)
        assert route[0] == (2.5, 2.5)
        assert route[-1] == (15.5, 16.5)
        assert all(SPACE.contains(x, z, clearance=0.4) for x, z in route)
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(route))
        assert len(route) == 1 + 13 + 14

    def test_no_route_between_separate_regions(self) -> None:
        free = np.ones((3, 5), bool)
        free[:, 2] = False
        assert FreeSpace(free, 1.0).route((0.5, 0.5), (4.5, 0.5), clearance=0.4) == []

    def test_no_room_is_an_error_that_says_so(self) -> None:
        with pytest.raises(ValueError, match="clearance"):
            SPACE.sample(np.random.default_rng(0), clearance=8.0)


Refuse = Callable[[Walker], bool]


@pytest.mark.parametrize("refused", [lambda w: w.try_step(forward=1), lambda w: w.try_step(right=-1, pitch=1)])
def test_a_refused_step_changes_nothing(refused: Refuse) -> None:
    walker = Walker(SPACE, x=1.7, z=1.7, yaw=-3 * math.pi / 4, steps=ActionSteps(move=2.0), clearance=CLEARANCE)
    assert not refused(walker)
    assert (walker.x, walker.z, walker.pitch, walker.actions) == (1.7, 1.7, 0.0, [])
