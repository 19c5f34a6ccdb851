"""Figures of whole arms: which frames they describe, and what their intervals and differences cover."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldenv.eval.frechet import frechet_distance
from worldenv.eval.report.statistics import Estimate
from worldenv.eval.suites.cases import Cases
from worldenv.eval.suites.figures import arm_figures
from worldenv.eval.suites.run import ArmResult

NAME = "frechet_pose_features"
RNG = np.random.default_rng(0)


@pytest.fixture
def cases(noise_cases) -> Cases:  # type: ignore[no-untyped-def]
    """Twelve paths of 16 latents; odd ones show unseen ground from the tenth latent on."""
    made: Cases = noise_cases(["explore"] * 12, 4)
    seen = torch.ones(12, 16, 8, dtype=torch.bool)
    seen[1::2, 9:, :5] = False
    seen[0, :, :4] = False  # half is not most
    return replace(made, seen=seen)


def figures(cases: Cases, ages: bool = True, **features: np.ndarray) -> dict[str, dict[str, Estimate]]:
    """Measure arms whose features (N, n, D) these are."""
    return arm_figures({arm: ArmResult(features={NAME: x}) for arm, x in features.items()}, cases, ages=ages)


def test_each_figure_describes_its_own_frames(cases: Cases) -> None:
    """Moved by 3 where it counts and by 100 elsewhere, features are 9 apart in each of their two axes."""
    true = RNG.normal(size=(12, 16, 2))
    unseen = np.zeros((12, 16), bool)
    unseen[1::2, 9:] = True
    parts = {"_unseen": unseen, "_early": np.arange(16) < 2 + 0 * unseen, "_late": np.arange(16) >= 14 + 0 * unseen}
    for name, chosen in parts.items():
        moved = true + np.where(chosen, 3, 100)[..., None]
        figure = figures(cases, arm=moved, simulator=true)["arm"][NAME + name]
        assert figure.value == pytest.approx(18), name
        assert figure.n == (6 if name == "_unseen" else 12)
        assert figure.draws == pytest.approx(np.full(1000, 18.0)), name
    found = figures(cases, arm=moved, simulator=true)["arm"]
    assert found[NAME].value == pytest.approx(frechet_distance(moved.reshape(-1, 2), true.reshape(-1, 2)))
    assert found[f"{NAME}_drift"].value == pytest.approx(18 - 2 * 100**2)
    assert set(figures(cases, ages=False, arm=moved, simulator=true)["arm"]) == {NAME, f"{NAME}_unseen"}
    blind = replace(cases, seen=None)
    assert f"{NAME}_unseen" not in figures(blind, arm=moved, simulator=true)["arm"]


def test_given_latents_have_no_part_in_the_truth_either(cases: Cases) -> None:
    true = RNG.normal(size=(12, 16, 2))
    true[:, :10] += 50
    found = figures(cases, arm=true[:, 10:] + 1, whole=true + 1, simulator=true)
    for arm in ("arm", "whole"):
        assert found[arm][NAME].value == pytest.approx(2), arm
        assert found[arm][f"{NAME}_unseen"].value == pytest.approx(2), arm


def test_equal_arms_do_not_differ_and_the_truth_is_no_distance_away(cases: Cases) -> None:
    made, true = RNG.normal(size=(2, 12, 16, 5))
    found = figures(cases, a=made, b=made.copy(), simulator=true)
    assert found["simulator"][NAME].summary() == {"mean": 0, "ci95": [0, 0], "n": 12}
    for name, figure in found["a"].items():
        assert (figure - found["b"][name]).summary() == {"mean": 0, "ci95": [0, 0], "n": figure.n}, name
    low, high = found["a"][NAME].summary()["ci95"]
    assert 0 <= low < found["a"][NAME].value < high


def test_intervals_cover_the_known_distance_of_gaussians(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """Variance 1 of trajectories and of frames; one arm moved by 1, the other twice as wide: 2 and 4, 2 less."""
    rng, hits, widths = np.random.default_rng(1), {"moved": 0, "wide": 0, "difference": 0}, []
    wanted = {"moved": 2.0, "wide": 4.0, "difference": -2.0}
    cases = noise_cases(["explore"] * 24, 4)
    for _ in range(60):
        true, moved, wide = (rng.normal(size=(24, 1, 2)) + rng.normal(size=(24, 16, 2)) for _ in range(3))
        found = figures(cases, ages=False, moved=moved + 1, wide=2 * wide, simulator=true)
        shown = {arm: found[arm][NAME] for arm in ("moved", "wide")}
        for name, figure in {**shown, "difference": shown["moved"] - shown["wide"]}.items():
            low, high = figure.summary()["ci95"]
            hits[name] += low <= wanted[name] <= high
            widths.append(high - low)
    assert all(count >= 50 for count in hits.values()), hits
    assert 0.5 < np.mean(widths) < 5


def test_contrast_is_judged_by_the_distance_of_its_mean_from_1(cases: Cases) -> None:
    """Trajectories above and below 1 make up for each other; too much and too little count alike."""
    noise = np.tile([-0.1, 0.1], 6)
    metrics = {
        arm: {"contrast_ratio": mean + noise, "contrast_ratio_drift": np.full(12, mean - 1)}
        for arm, mean in {"dull": 0.8, "harsh": 1.2, "right": 1.0, "simulator": 1.0}.items()
    }
    found = arm_figures({arm: ArmResult(values) for arm, values in metrics.items()}, cases, ages=True)
    assert found["dull"]["contrast_error"].value == pytest.approx(0.2)
    assert found["harsh"]["contrast_error"].value == pytest.approx(0.2)
    assert found["right"]["contrast_error"].value == pytest.approx(0)
    better, alike = (
        (found[arm]["contrast_error"] - found["harsh"]["contrast_error"]).summary() for arm in ("right", "dull")
    )
    assert better["mean"] == pytest.approx(-0.2)
    assert better["ci95"][1] < 0
    assert alike["ci95"][0] < alike["mean"] == 0 < alike["ci95"][1]
    assert (
        found["right"]["contrast_error"].summary()["ci95"][0]
        == 0
        < found["dull"]["contrast_error"].summary()["ci95"][0]
    )
    assert found["dull"]["contrast_drift_size"].value == pytest.approx(0.2)
