import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.geometry.pose import (
    chain,
    compose,
    interpolate,
    invert_se3,
    is_rigid,
    look,
    relative,
    rotation_angle,
    rotation_pitch,
    rotation_yaw,
    wrap_angle,
    yaw_pitch,
)

angles = st.floats(-3.1, 3.1)
pitches = st.floats(-1.5, 1.5)
metres = st.floats(-50, 50)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def upright(x: float, y: float, z: float, yaw: float, pitch: float) -> torch.Tensor:
    return look(torch.tensor([x, y, z], dtype=torch.float64), scalar(yaw), scalar(pitch))


cameras = st.builds(upright, metres, metres, metres, angles, pitches)


@given(cameras)
@settings(max_examples=50, deadline=None)
def test_inverse_undoes_the_transform(c2w: torch.Tensor) -> None:
    torch.testing.assert_close(invert_se3(c2w) @ c2w, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(invert_se3(c2w), torch.linalg.inv(c2w), atol=1e-10, rtol=0)


@given(cameras, cameras)
@settings(max_examples=50, deadline=None)
def test_relative_motion_leads_from_one_camera_to_the_other(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a @ relative(a, b), b, atol=1e-10, rtol=0)


@given(angles, pitches)
@settings(max_examples=50, deadline=None)
def test_yaw_and_pitch_are_read_back(yaw: float, pitch: float) -> None:
    found = yaw_pitch(upright(1, 2, 3, yaw, pitch))
    assert float(found[0]) == pytest.approx(yaw, abs=1e-9)
    assert float(found[1]) == pytest.approx(pitch, abs=1e-9)


def test_signs_of_the_axes() -> None:
    """Right is +x, up is -y: positive yaw looks towards +x, positive pitch towards -y."""
    right = rotation_yaw(scalar(0.3)) @ torch.tensor([0, 0, 1.0], dtype=torch.float64)
    up = rotation_pitch(scalar(0.3)) @ torch.tensor([0, 0, 1.0], dtype=torch.float64)
    assert right[0] == pytest.approx(math.sin(0.3))
    assert right[1] == 0
    assert up[1] == pytest.approx(-math.sin(0.3))
    assert up[0] == 0


def test_compose_broadcasts() -> None:
    made = compose(torch.eye(3).expand(5, 1, 3, 3), torch.arange(6.0).view(2, 3))
    assert made.shape == (5, 2, 4, 4)
    assert made[3, 1, :3, 3].tolist() == [3, 4, 5]
    assert made[0, 0, 3].tolist() == [0, 0, 0, 1]


@given(st.floats(-100, 100))
@settings(max_examples=50, deadline=None)
def test_wrap_angle_keeps_the_direction(angle: float) -> None:
    wrapped = float(wrap_angle(scalar(angle)))
    assert -math.pi <= wrapped < math.pi + 1e-12
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0, math.pi - 1e-6])
def test_rotation_angle_is_accurate_everywhere(angle: float) -> None:
    turn = rotation_pitch(scalar(0.4)) @ rotation_yaw(scalar(angle)) @ rotation_pitch(scalar(-0.4))
    assert float(rotation_angle(turn)) == pytest.approx(angle, abs=1e-12, rel=1e-6)


@given(cameras, cameras, st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_interpolation_ends_exactly_and_moves_evenly(a: torch.Tensor, b: torch.Tensor, steps: int) -> None:
    path = interpolate(a, b, steps)
    assert path.shape == (steps, 4, 4)
    assert torch.equal(path[-1], b)
    whole = torch.cat([a[None], path])
    moves = whole[1:, :3, 3] - whole[:-1, :3, 3]
    torch.testing.assert_close(moves, ((b - a)[:3, 3] / steps).expand_as(moves), atol=1e-9, rtol=0)
    eye = torch.eye(3, dtype=torch.float64).expand(steps, 3, 3)
    torch.testing.assert_close(path[:, :3, :3] @ path[:, :3, :3].mT, eye, atol=1e-9, rtol=0)


def test_interpolation_turns_the_short_way_round() -> None:
    path = interpolate(upright(0, 0, 0, 3.0, 0), upright(0, 0, 0, -3.0, 0), 2)
    assert abs(float(yaw_pitch(path[0])[0])) == pytest.approx(math.pi, abs=1e-9)


@given(st.lists(cameras, min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_chained_motions_are_the_track_they_were_taken_from(track: list[torch.Tensor]) -> None:
    c2w = torch.stack(track)
    motions = relative(c2w[:-1], c2w[1:])
    torch.testing.assert_close(chain(c2w[0], motions), c2w, atol=1e-9, rtol=0)


def test_rigid_motions_are_told_from_others() -> None:
    good = look(torch.randn(5, 3).double(), torch.randn(5).double(), torch.randn(5).double() / 3)
    assert is_rigid(good)
    assert is_rigid(good[:0])
    assert is_rigid(good.float())
    for row, column, value in ((0, 3, torch.nan), (1, 1, torch.inf), (3, 0, 0.5), (3, 3, 2.0), (0, 0, 1.5)):
        wrong = good.clone()
        wrong[2, row, column] = value
        assert not is_rigid(wrong)
    assert not is_rigid(good * torch.tensor([-1.0, 1, 1, 1]).double()), "mirrored"
