"""Interrupted runs go on; finished ones leave no parts; batches are joined in order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from worldenv.eval.suites import run
from worldenv.eval.suites.arms import Progress
from worldenv.eval.suites.cases import Cases
from worldenv.eval.suites.run import Scores, finish, run_arms


def scorer(frames: Tensor, cases: Cases, given_frames: int) -> Scores:
    metrics = {"mean": frames.float().mean((1, 2, 3, 4)).numpy().astype(np.float64)}
    if cases.seeds[0] == 0:
        metrics["only_in_the_first_batch"] = np.ones(len(cases))
    return Scores(
        metrics, {"curve": np.tile(metrics["mean"][:, None], (1, 2))}, {"feature": np.ones((len(cases), 3, 2))}
    )


class Arm:
    """Shows the truth, counts its calls and may break at one of them."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.calls, self.breaks_at = 0, breaks_at

    def __call__(self, cases: Cases, progress: Progress) -> Tensor:
        if self.calls == self.breaks_at:
            raise KeyboardInterrupt
        self.calls += 1
        for _ in range(2):
            progress.chunk(0.5)
        return cases.frames


@pytest.fixture
def cases(noise_cases, monkeypatch: pytest.MonkeyPatch) -> Cases:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(run, "BATCH", 2)
    made: Cases = noise_cases(["explore"] * 5, 2)
    return made


def test_a_run_goes_on_after_its_last_whole_batch(cases: Cases, tmp_path: Path) -> None:
    whole = run_arms({"a": Arm(), "b": Arm()}, cases, scorer, tmp_path / "whole", num_chunks=2, key="k")
    first = {"a": Arm(), "b": Arm(breaks_at=1)}
    with pytest.raises(KeyboardInterrupt):
        run_arms(first, cases, scorer, tmp_path / "cut", num_chunks=2, key="k")
    assert [arm.calls for arm in first.values()] == [3, 1]
    again = {"a": Arm(), "b": Arm()}
    results = run_arms(again, cases, scorer, tmp_path / "cut", num_chunks=2, key="k")
    assert [arm.calls for arm in again.values()] == [0, 2]
    for name in ("a", "b"):
        np.testing.assert_array_equal(results[name].metrics["mean"], whole[name].metrics["mean"])
        np.testing.assert_array_equal(results[name].curves["curve"], whole[name].curves["curve"])
        assert torch.equal(results[name].shown, whole[name].shown)  # type: ignore[arg-type]
    finish(tmp_path / "cut")
    assert not (tmp_path / "cut" / "parts").exists()


def test_results_are_in_order_and_gaps_are_nan(cases: Cases, tmp_path: Path) -> None:
    found = run_arms({"a": Arm()}, cases, scorer, tmp_path, num_chunks=2, key="k", keep=3)["a"]
    np.testing.assert_allclose(found.metrics["mean"], cases.frames.float().mean((1, 2, 3, 4)))
    there = ~np.isnan(found.metrics["only_in_the_first_batch"])
    assert there.tolist() == [True, True, False, False, False]
    assert found.features["feature"].shape == (5, 3, 2)
    assert found.seconds == [0.5] * 6
    assert found.shown is not None
    assert torch.equal(found.shown, cases.frames[:3])


@pytest.mark.parametrize("change", ["key", "cases", "arms"])
def test_parts_of_another_run_are_not_used(cases: Cases, tmp_path: Path, change: str) -> None:
    run_arms({"a": Arm()}, cases, scorer, tmp_path, num_chunks=2, key="k")
    again = Arm()
    arms = {"a": again} | ({"b": Arm()} if change == "arms" else {})
    run_arms(
        arms,
        cases.rows(slice(0, 4)) if change == "cases" else cases,
        scorer,
        tmp_path,
        num_chunks=2,
        key="other" if change == "key" else "k",
    )
    assert again.calls > 0
