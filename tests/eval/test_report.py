import csv
import json
from pathlib import Path

import numpy as np
import pytest

from worldenv.eval.report import bootstrap_ci, paired, summarise, write_report


def test_intervals_cover_the_true_mean_about_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = bootstrap_ci(rng.normal(3, 2, 24))
        hits += low <= 3 <= high
    assert 86 <= hits <= 100


def test_intervals_shrink_with_cases_and_are_reproducible() -> None:
    values = np.random.default_rng(0).normal(size=400)
    few, many = bootstrap_ci(values[:25]), bootstrap_ci(values)
    assert few[1] - few[0] > 2 * (many[1] - many[0])
    assert many == bootstrap_ci(values)
    assert many[1] - many[0] == pytest.approx(2 * 1.96 / 20, rel=0.2)
    assert bootstrap_ci(np.full(5, 2.0)) == (2.0, 2.0)


def test_pairs_are_compared_case_by_case() -> None:
    a = {"x": np.array([1.0, 5.0]), "only": np.zeros(2)}
    found = paired(a, {"x": np.array([0.0, 4.0])})
    assert found == {"x": {"mean": 1.0, "ci95": [1.0, 1.0], "n": 2}}


def report(path: Path, **changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {
        "suite": "revisit", "protocol": "revisit-v1", "world": {"name": "w", "sha256": "0"}, "seeds": [1, 2],
        "arms": {"none": {"psnr": np.array([10.0, 12.0])}}, "timing": {"frames_per_s": 3.14159},
    }  # fmt: skip
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


def test_nan_is_refused_and_leaves_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)nan|compliant"):
        report(tmp_path / "report.json", arms={"none": {"psnr": np.array([1.0, np.nan])}})
    assert not (tmp_path / "report.json").exists()


def test_summaries_count_their_cases() -> None:
    assert summarise(np.arange(5.0))["n"] == 5


def test_every_trajectory_is_a_row_and_the_page_holds_every_figure(tmp_path: Path) -> None:
    arms = {"a": {"psnr": np.array([10.0, 12.0])}, "b": {"psnr": np.array([1.0, 2.0]), "gap": np.array([0.5, 0.25])}}
    differences = {"a - b": paired(arms["a"], arms["b"])}
    report(tmp_path / "report.json", arms=arms, differences=differences, skipped={"lpips": "no weights"})
    with (tmp_path / "trajectories.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert [row["psnr"] for row in rows] == ["10.0", "12.0", "1.0", "2.0"]
    assert [row["gap"] for row in rows] == ["", "", "0.5", "0.25"]
    page = (tmp_path / "report.md").read_text()
    assert "| a | 11 [10, 12] |  |" in page
    assert "| a - b | 9.5 [9, 10] |" in page
    assert "lpips was skipped: no weights" in page
