"""Figures of an arm as a whole, which are no means over trajectories; all are better when they are lower.

``frechet_*`` is over the last frames of latents: of all, ``_unseen`` of those that mostly show what the start view did
not (``Cases.unseen``), ``_early`` and ``_late`` of the first and the last eighth; ``_drift`` is late less early.
``contrast_error`` is |1 - mean contrast ratio|; ``*_drift_size`` is how much a mean changes from early to late.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..frechet import Moments, frechet_distance, frechet_draws
from ..image import Array
from ..report.statistics import Estimate, distance_of_mean, draw_weights
from .cases import Cases
from .run import ArmResult

DISTANCES = {
    **{f"contrast_error{part}": (f"contrast_ratio{part}", 1.0) for part in ("", "_new", "_unseen", "_early", "_late")},
    "contrast_drift_size": ("contrast_ratio_drift", 0.0),
    "sharpness_drift_size": ("sharpness_drift", 0.0),
}
"""Figures that are the distance of a metric's mean from a number."""


def arm_figures(results: Mapping[str, ArmResult], cases: Cases, *, ages: bool) -> dict[str, dict[str, Estimate]]:
    """Return every figure of every arm, resampled with the same trajectories; ``simulator`` is the truth."""
    weights = draw_weights([np.asarray(cases.seeds)])
    found = {
        arm: {
            figure: distance_of_mean(result.metrics[metric], target, weights)
            for figure, (metric, target) in DISTANCES.items()
            if metric in result.metrics
        }
        for arm, result in results.items()
    }
    for name, truth in results["simulator"].features.items():
        for length in {result.features[name].shape[1] for result in results.values()}:  # given frames have none
            made = {arm: r.features[name] for arm, r in results.items() if r.features[name].shape[1] == length}
            for suffix, chosen in _parts(cases, length, ages=ages).items():
                for arm, figure in frechet_figures(made, truth[:, -length:], chosen, weights).items():
                    found[arm][name + suffix] = figure
        for figures in found.values() if ages else ():
            figures[f"{name}_drift"] = figures[f"{name}_late"] - figures[f"{name}_early"]
    return found


def _parts(cases: Cases, length: int, *, ages: bool) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which of the last latents count for which figure, each (N, length)."""
    index, eighth = np.arange(length), max(1, length // 8)
    parts = {"": index >= 0}
    if ages:
        parts |= {"_early": index < eighth, "_late": index >= length - eighth}
    everywhere = {suffix: np.broadcast_to(part, (len(cases), length)) for suffix, part in parts.items()}
    unseen = cases.unseen[:, -length:]
    return everywhere | ({"_unseen": unseen} if unseen.sum() >= 2 else {})


def frechet_figures(
    made: Mapping[str, Array],  # (N, n, D)
    truth: Array,  # (N, n, D)
    chosen: npt.NDArray[np.bool_],  # (N, n)
    weights: Array,  # (K, N)
) -> dict[str, Estimate]:
    """Return each arm's Frechet distance from the truth over what was chosen, and those of resampled cases."""
    centre = truth[chosen].mean(0)
    sums = {arm: Moments.of(features - centre, chosen) for arm, features in made.items()}
    draws, count = frechet_draws(sums, Moments.of(truth - centre, chosen), weights), int(chosen.any(1).sum())
    return {
        arm: Estimate(frechet_distance(features[chosen], truth[chosen]), draws[arm], count, centre=True)
        for arm, features in made.items()
    }
