import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.action import (
    NUM_LABELS,
    ROTATIONS,
    TRANSLATIONS,
    ActionSteps,
    c2w_to_keys,
    camera_to_c2w,
    keys_to_c2w,
    keys_to_camera,
    keys_to_label,
    label_to_keys,
    move_camera,
)
from worldenv.geometry.pose import look, rotation_angle, yaw_pitch

EYE = torch.eye(4, dtype=torch.float64)
ALL_KEYS = label_to_keys(torch.arange(NUM_LABELS))[:, None]  # (81, 1, 2)


def at(yaw: float, pitch: float = 0.0) -> torch.Tensor:
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([3.0, -1.0, 2.0], yaw, pitch)))


def label_path(c2w: torch.Tensor, start: torch.Tensor, steps: ActionSteps) -> torch.Tensor:
    """Labels as the recorder, the engine and the spaces read them: a tenth of a step is no key."""
    path = torch.cat([start.expand(*c2w.shape[:-3], 1, 4, 4), c2w], -3)
    return WorldSpec(steps=steps).keys_along(path)


def test_there_are_81_labels_and_they_split_back() -> None:
    assert NUM_LABELS == 81
    assert torch.equal(keys_to_label(ALL_KEYS[:, 0]), torch.arange(81))


@pytest.mark.parametrize("yaw", [0.0, 0.7, 3.1])
@pytest.mark.parametrize("pitch", [0.0, 0.5, -0.9])
def test_fly_keys_to_poses_and_back_for_every_label(yaw: float, pitch: float) -> None:
    start = at(yaw, pitch)
    c2w = keys_to_c2w(ALL_KEYS, start.expand(81, 4, 4), move=0.08, turn_deg=3.0)
    path = torch.cat([start.expand(81, 1, 4, 4), c2w], 1)
    assert torch.equal(c2w_to_keys(path), ALL_KEYS)


@pytest.mark.parametrize("yaw", [0.0, 0.7, 3.1])
@pytest.mark.parametrize("pitch_deg", [0.0, 7.5, -11.25])
@pytest.mark.parametrize("turn_deg", [5.6, 11.25, 18.0])
def test_walk_keys_to_poses_and_back_for_every_label(yaw: float, pitch_deg: float, turn_deg: float) -> None:
    steps, start = ActionSteps(turn_deg=turn_deg), at(yaw, math.radians(pitch_deg))
    c2w = camera_to_c2w(keys_to_camera(ALL_KEYS), start.expand(81, 4, 4), steps)
    assert torch.equal(label_path(c2w, start, steps), ALL_KEYS)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_keys_survive_a_whole_path(keys: list[tuple[int, int]]) -> None:
    codes = torch.tensor(keys)
    c2w = keys_to_c2w(codes, EYE, move=0.3, turn_deg=7.0)
    assert torch.equal(c2w_to_keys(torch.cat([EYE[None], c2w])), codes)


def test_rotation_comes_before_translation() -> None:
    """Turning right by 90 degrees and walking forward in one latent ends to the right of the start."""
    keys = torch.tensor([[TRANSLATIONS.index("forward"), ROTATIONS.index("right")]])
    end = keys_to_c2w(keys, EYE, move=2.0, turn_deg=90.0)[0]
    torch.testing.assert_close(end[:3, 3], torch.tensor([2.0, 0, 0], dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(end[:3, 2], torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", (0, 0)),
        ("forward", (0, 1)),
        ("back", (0, -1)),
        ("right", (1, 0)),
        ("left", (-1, 0)),
        ("forward+right", (1, 1)),
        ("forward+left", (-1, 1)),
        ("back+right", (1, -1)),
        ("back+left", (-1, -1)),
    ],
)
def test_diagonals_move_a_full_step_on_each_axis(name: str, expected: tuple[int, int]) -> None:
    end = keys_to_c2w(torch.tensor([[TRANSLATIONS.index(name), 0]]), EYE, move=0.5, turn_deg=3.0)[0]
    assert end[:3, 3].tolist() == [0.5 * expected[0], 0, 0.5 * expected[1]]


def test_fly_pitches_up_by_the_turn_angle_and_climbs() -> None:
    keys = torch.tensor([[1, ROTATIONS.index("up")]])
    end = keys_to_c2w(keys, EYE, move=1.0, turn_deg=30.0)[0]
    assert float(yaw_pitch(end)[1]) == pytest.approx(math.radians(30))
    assert float(end[1, 3]) == pytest.approx(-0.5)


def test_walking_stays_level_and_upright() -> None:
    """Looking up does not lift the feet, and yaw after pitch brings no roll."""
    camera = torch.tensor([[1.0, 0, 0, 0, 1], [1, 1, 0, 1, 1], [1, 0, 0, 1, 0]])
    path = camera_to_c2w(camera, EYE, ActionSteps())
    assert path[:, 1, 3].abs().max() == 0
    assert path[:, 1, 0].abs().max() < 1e-12  # the camera's x axis stays horizontal
    assert float(path[0, 2, 3]) == pytest.approx(0.25)


def test_pitch_is_clamped_when_walking() -> None:
    steps = ActionSteps(pitch_limit_deg=15, pitch_deg=10)
    path = camera_to_c2w(torch.tensor([[0.0, 0, 0, 0, 1]] * 4), EYE, steps)
    pitch = torch.rad2deg(yaw_pitch(path)[1])
    torch.testing.assert_close(pitch, torch.tensor([10.0, 15, 15, 15], dtype=torch.float64), atol=1e-9, rtol=0)
    down = camera_to_c2w(torch.tensor([[0.0, 0, 0, 0, -1]] * 4), EYE, steps)
    assert float(torch.rad2deg(yaw_pitch(down)[1]).min()) == pytest.approx(-15)


@pytest.mark.parametrize("motion", ["walk", "fly"])
def test_up_is_against_y(motion: str) -> None:
    delta = torch.tensor([0, 0, 0.7, 0, 0], dtype=torch.float64)
    assert move_camera(EYE, delta, motion=motion)[:3, 3].tolist() == [0, pytest.approx(-0.7), 0]  # type: ignore[arg-type]


def test_thirty_to_sixty_degrees_is_a_diagonal() -> None:
    """A translation key is on within 60 degrees of its axis (supplement A)."""
    for degrees, name in (
        (0, "forward"),
        (29, "forward"),
        (31, "forward+right"),
        (59, "forward+right"),
        (61, "right"),
        (119, "right"),
        (121, "back+right"),
        (180, "back"),
        (-45, "forward+left"),
    ):
        path = EYE.repeat(2, 1, 1)
        path[1, 0, 3], path[1, 2, 3] = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        assert TRANSLATIONS[int(c2w_to_keys(path)[0, 0])] == name, degrees


def test_motion_below_the_thresholds_is_no_key_and_vertical_motion_has_none() -> None:
    path = EYE.repeat(3, 1, 1)
    path[1, 2, 3] = 0.9e-4
    path[2, :3, 3] = torch.tensor([0, -1.0, 0.9e-4])
    assert c2w_to_keys(path).tolist() == [[0, 0], [0, 0]]
    turned = torch.stack([EYE, at(math.radians(0.049)) - at(0.0) + EYE])
    assert c2w_to_keys(turned)[0, 1] == 0


def test_numpy_in_numpy_out() -> None:
    keys = np.array([[1, 0], [5, 3]])
    c2w = keys_to_c2w(keys, np.eye(4), move=0.1, turn_deg=3.0)
    assert isinstance(c2w, np.ndarray)
    assert c2w.dtype == np.float64
    expected = keys_to_c2w(torch.from_numpy(keys), EYE, move=0.1, turn_deg=3.0)
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_array_equal(c2w, expected.numpy())
    labels = c2w_to_keys(np.concatenate([np.eye(4)[None], c2w]))
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, keys)


@pytest.mark.parametrize("code", [-1, 9])
def test_codes_outside_the_table_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.8"):
        keys_to_c2w(torch.tensor([[0, code]]), EYE, move=0.1, turn_deg=3.0)


def test_batch_axes_are_kept() -> None:
    keys = torch.randint(0, 9, (2, 3, 5, 2), generator=torch.Generator().manual_seed(0))
    c2w = keys_to_c2w(keys, EYE.expand(2, 3, 4, 4), move=0.1, turn_deg=3.0)
    assert c2w.shape == (2, 3, 5, 4, 4)
    torch.testing.assert_close(c2w[1, 2], keys_to_c2w(keys[1, 2], EYE, move=0.1, turn_deg=3.0))
    assert rotation_angle(c2w[..., :3, :3]).shape == (2, 3, 5)
