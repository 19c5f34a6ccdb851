import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.eval.report.pictures import sheet
from worldenv.eval.suites.action import horizontal_shift, obedience, run_action, turn_shifts
from worldenv.eval.suites.evaluate import run_suite
from worldenv.world.world import World


@pytest.mark.parametrize("shift", [-12, -5, 0, 1, 7, 12])
def test_shifts_of_pictures_are_found(shift: int) -> None:
    wide = torch.randint(0, 256, (3, 24, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before, after = wide[:, :, 30:94], wide[:, :, 30 - shift : 94 - shift]
    assert horizontal_shift(before, after).tolist() == [shift] * 3
    darker = (after.float() * 0.6 + 20).to(torch.uint8)
    assert horizontal_shift(before, darker).tolist() == [shift] * 3, "brightness and contrast do not matter"


def test_obeying_is_left_for_right_and_right_for_left() -> None:
    right, left = np.array([-3.0, 3.0, 0.0, -1.0]), np.array([2.0, -2.0, 1.0, -4.0])
    assert obedience(right, left).tolist() == [1, 0, 0, 0]


def test_both_turns_start_from_the_same_view_and_noise(tiny_world: World) -> None:
    right, left = turn_shifts(tiny_world, [0, 1, 2])
    assert right.shape == left.shape == (3,)
    again = turn_shifts(tiny_world, [0, 1, 2])
    assert right.tolist() == again[0].tolist()
    assert left.tolist() == again[1].tolist()


def test_the_report_names_the_start_views_it_used(tiny_world: World, tmp_path: Path) -> None:
    run_action(tiny_world, tmp_path, num_worlds=2, first_seed=5)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["seeds"] == [900_005, 900_006]
    assert set(report["arms"]["worldplay"]) == {"obeyed", "shift_right", "shift_left"}
    with pytest.raises(ValueError, match="the world has 64"):
        run_action(tiny_world, tmp_path, num_worlds=10, first_seed=60)


def test_unknown_suites_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="revisit"):
        run_suite("beauty", "maze", tmp_path, num_worlds=1, first_seed=0)


def test_sheets_put_the_truth_above() -> None:
    truth, made = torch.zeros(2, 3, 4, 5, 3, dtype=torch.uint8), torch.ones(2, 3, 4, 5, 3, dtype=torch.uint8)
    grid = sheet(truth, made, scale=1)
    assert grid.shape == (16, 15, 3)
    assert grid[:, 0, 0].tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4


@pytest.mark.sim
def test_the_simulator_itself_passes_the_geometry_suite(sims: None, tmp_path: Path) -> None:
    from worldenv.dynamics.spec import WorldSpec
    from worldenv.eval.suites.geometry import run_geometry

    run_geometry(tmp_path, spec=WorldSpec(), num_worlds=3, first_seed=900_000)
    arms = json.loads((tmp_path / "report.json").read_text())["arms"]["simulator"]
    assert arms["warp_psnr"]["mean"] > 25
    assert arms["lag_latents"]["mean"] == 0
    assert (tmp_path / "geometry.png").is_file()
