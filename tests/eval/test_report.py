import csv
import json
from pathlib import Path

import numpy as np
import pytest

from worldenv.eval.report.document import as_page, compare, write_report
from worldenv.eval.report.statistics import Estimate


def report(path: Path, **changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {
        "suite": "revisit",
        "protocol": "revisit-v1",
        "world": {"name": "w", "sha256": "0"},
        "seeds": [1, 2],
        "arms": {"none": {"psnr": np.array([10.0, 12.0])}},
        "timing": {"frames_per_s": 3.14159},
    }
    return write_report(path, **{**arguments, **changes})  # type: ignore[arg-type]


def test_reports_hold_the_contracts_keys(tmp_path: Path) -> None:
    made = report(tmp_path / "report.json")
    loaded = json.loads((tmp_path / "report.json").read_text())
    assert loaded == json.loads(json.dumps(made))
    keys = {"format", "suite", "protocol", "world", "git", "hardware", "seeds", "ci", "arms", "timing", "skipped"}
    assert keys <= set(loaded)
    assert loaded["format"] == 1
    assert loaded["arms"]["none"]["psnr"]["mean"] == 11
    assert loaded["arms"]["none"]["psnr"]["n"] == 2


def test_a_case_without_a_metric_is_left_out_and_counted_so(tmp_path: Path) -> None:
    arms = {"none": {"psnr": np.array([1.0, np.nan])}, "recent": {"psnr": np.array([0.0, 4.0])}}
    made = report(tmp_path / "report.json", arms=arms, against=[("none", "recent")])
    assert made["arms"]["none"]["psnr"] == {"mean": 1.0, "ci95": [1.0, 1.0], "n": 1}  # type: ignore[index]
    assert made["differences"]["none - recent"]["psnr"]["n"] == 1  # type: ignore[index]
    rows = (tmp_path / "trajectories.csv").read_text().splitlines()
    assert rows[2] == "none,2,"


def test_no_number_at_all_is_refused_and_leaves_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all NaN"):
        report(tmp_path / "report.json", arms={"none": {"psnr": np.full(2, np.nan)}})
    assert not (tmp_path / "report.json").exists()


def test_an_arm_that_stands_still_is_marked_invalid(tmp_path: Path) -> None:
    arms = {name: {"memory_symmetry": np.ones(2), "motion_ratio": np.full(2, m)} for name, m in (("a", 0.9), ("b", 0))}
    page = as_page(report(tmp_path / "report.json", arms=arms))
    assert "| metric | a | b (invalid) |" in page
    assert "invalid as worlds, however consistent: b." in page


def test_every_trajectory_is_a_row_and_the_page_holds_every_figure(tmp_path: Path) -> None:
    arms = {"a": {"psnr": np.array([10.0, 12.0])}, "b": {"psnr": np.array([1.0, 2.0]), "gap": np.array([0.5, 0.25])}}
    report(tmp_path / "report.json", arms=arms, against=[("a", "b")], skipped={"lpips": "no weights"}, kinds=["x", "y"])
    with (tmp_path / "trajectories.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert [row["psnr"] for row in rows] == ["10.0", "12.0", "1.0", "2.0"]
    assert [row["path"] for row in rows] == ["x", "y"] * 2
    assert [row["gap"] for row in rows] == ["", "", "0.5", "0.25"]
    page = (tmp_path / "report.md").read_text()
    assert "| psnr | 11 [10, 12] | 1.5 [1, 2] |" in page
    assert "| gap |  | 0.375 [0.25, 0.5] |" in page
    assert "| psnr | 9.5 [9, 10] |" in page
    assert "lpips was skipped: no weights" in page


def test_figures_of_whole_arms_stand_beside_means_and_in_differences(tmp_path: Path) -> None:
    arms = {name: {"psnr": np.array([10.0, 12.0])} for name in "ab"}
    draws = np.linspace(-0.2, 0.2, 1001)
    figures = {
        "a": {"frechet": Estimate(2.0, 2 + draws, 2), "fid": Estimate(7.0)},
        "b": {"frechet": Estimate(5.0, 5 - draws, 2), "fid": Estimate(9.0)},
    }
    made = report(tmp_path / "report.json", arms=arms, figures=figures, against=[("a", "b")])
    assert made["arms"]["a"]["frechet"] == {"mean": 2.0, "ci95": [1.81, 2.19], "n": 2}  # type: ignore[index]
    assert made["arms"]["a"]["fid"]["n"] == 1  # type: ignore[index]
    difference = made["differences"]["a - b"]  # type: ignore[index]
    assert difference["frechet"] == {"mean": -3.0, "ci95": [-3.38, -2.62], "n": 2}
    assert "fid" not in difference, "without an interval there is no difference to speak of"
    page = (tmp_path / "report.md").read_text()
    assert "| frechet | 2 [1.81, 2.19] | 5 [4.81, 5.19] |" in page
    assert "| fid | 7 | 9 |" in page


def test_reports_differ_only_where_intervals_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, base in (("a", 0.0), ("b", 5.0)):
        (tmp_path / name).mkdir()
        figures = {"none": {"fid": Estimate(base), "frechet": Estimate(base, np.linspace(base - 1, base + 1, 100), 2)}}
        arms = {"none": {"psnr": np.array([10.0, 12.0])}}
        report(tmp_path / name / "report.json", arms=arms, figures=figures)
    compare(tmp_path / "a", tmp_path / "b")
    shown = "".join(capsys.readouterr())
    rows = {name: next(line for line in shown.splitlines() if name in line) for name in ("fid", "frechet", "psnr")}
    assert "higher" in rows["frechet"]
    assert "higher" not in rows["fid"] + rows["psnr"]
