"""Means of samples that are not independent: bootstraps, paired differences, and the verdict on a claim.

Trajectories lie in worlds (nested); training seeds meet the same worlds (crossed). Who resamples trajectories alone
believes too much, and so does who draws worlds anew within each seed: what is hard in a map is hard for all of them.
Values are NaN where a trajectory has no such metric; those are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..image import Array

NUM_DRAWS = 10_000
NUM_FIGURE_DRAWS = 1_000
"""Draws for figures of a whole arm, which cost more than a mean."""
DESCRIPTION = (
    "95 % percentile interval of a hierarchical bootstrap (seed, world, trajectory), 10,000 draws; 1,000 draws for "
    "contrast_error, drift_size and frechet, the latter centred on the figure; n = 1: no interval"
)
LEAST_SEEDS = 5
"""Training seeds without which no claim is called reproduced."""
Groups = npt.NDArray[np.int64]
Verdict = Literal["reproduced in direction", "inconclusive", "not reproduced"]


def bootstrap_means(
    values: Array,  # (N,)
    groups: Sequence[Groups] = (),  # (N,) each, from the outermost level to the innermost; the trajectories are below
    *,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> Array:
    """Return the means of resampled data, (num_draws,): groups are drawn with replacement, then what lies in them."""
    rng = np.random.default_rng(seed)
    weights = _draw(np.zeros(len(values), np.int64), list(groups), num_draws, rng)
    result: Array = (weights @ values) / weights.sum(1)
    return result


def _draw(inside: Groups, levels: list[Groups], num_draws: int, rng: np.random.Generator) -> Array:
    """Return how often each value is drawn, (num_draws, N); a group drawn twice has its members drawn anew."""
    times, parents = np.ones((num_draws, 1), np.int64), inside
    for level in [*levels, np.arange(len(inside))]:
        keys = np.unique(np.stack([parents, level]), axis=1, return_inverse=True)[1].reshape(-1)
        if keys.max() == parents.max():  # groups of one: nothing to draw
            parents = keys
            continue
        drawn = np.zeros((num_draws, keys.max() + 1), np.int64)
        for parent in np.unique(parents):
            children = np.unique(keys[parents == parent])
            chances = np.full(len(children), 1 / len(children))
            drawn[:, children] = rng.multinomial(times[:, parent] * len(children), chances)
        times, parents = drawn, keys
    return times[:, parents].astype(np.float64)


def draw_weights(
    groups: Sequence[Groups],  # (N,) each, from the outermost level to the innermost
    *,
    num_draws: int = NUM_FIGURE_DRAWS,
) -> Array:
    """Return how often each trajectory counts in each draw, (num_draws, N): the same for every figure and arm."""
    return _draw(np.zeros(len(groups[0]), np.int64), list(groups), num_draws, np.random.default_rng(0))


@dataclass(frozen=True)
class Estimate:
    """A figure of an arm as a whole, and what it is in resampled sets of its trajectories."""

    value: float
    draws: Array | None = None  # (K,) of ``draw_weights``, NaN where a draw has none; None: there is no interval
    n: int = 1  # trajectories
    centre: bool = False
    """Whether draws are moved so that the figure is their mean: a resampled set has fewer different trajectories than
    the one it comes from, and as a distribution lies farther from the truth."""
    zero: bool = False
    """Whether this is a distance that may be 0, which no resampled one is."""

    def __sub__(self, other: Estimate) -> Estimate:
        draws = None if self.draws is None or other.draws is None else self.draws - other.draws
        return Estimate(self.value - other.value, draws, min(self.n, other.n), self.centre)

    def spread(self) -> Array:
        """Return the draws that there are, as intervals are taken from them."""
        assert self.draws is not None
        draws: Array = self.draws[~np.isnan(self.draws)]
        return draws - draws.mean() + self.value if self.centre else draws

    def summary(self) -> dict[str, Any]:
        """Return figure, interval and number of trajectories; without an interval its ends are the figure, n 1."""
        if self.draws is None:
            return {"mean": round(self.value, 4), "ci95": [round(self.value, 4)] * 2, "n": 1}
        low, high = np.percentile(self.spread(), [2.5, 97.5])
        if self.zero or np.nanmin(self.draws) >= 0 > low:
            low = 0.0
        return {"mean": round(self.value, 4), "ci95": [round(float(low), 4), round(float(high), 4)], "n": self.n}


def distance_of_mean(
    values: Array,  # (N,) NaN where a trajectory has none
    target: float,
    weights: Array,  # (K, N)
) -> Estimate:
    """Return |mean - target|: trajectories on either side of the target make up for each other."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # draws of none that have it
        means = weights[:, there] @ values[there] / weights[:, there].sum(1)
    low, high = np.nanpercentile(means, [2.5, 97.5])
    value = abs(float(values[there].mean()) - target)
    return Estimate(value, np.abs(means - target), int(there.sum()), zero=bool(low <= target <= high))


def mean_figure(figures: Sequence[Estimate]) -> Estimate:
    """Average a figure over training seeds, which are drawn with replacement beside the trajectories."""
    count, draws = len(figures), np.stack([figure.draws for figure in figures if figure.draws is not None], 1)
    times = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), len(draws))
    value = float(np.mean([figure.value for figure in figures]))
    return Estimate(value, (times * draws).sum(1) / count, min(figure.n for figure in figures), figures[0].centre)


def crossed_means(
    values: Array,  # (N,)
    factors: Sequence[Groups] = (),  # (N,) each: training seeds, maps; none draws the values themselves
    *,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> Array:
    """Return the means of data resampled along each factor independently, (num_draws,), fewer if draws are empty.

    The pigeonhole bootstrap (Owen 2007): a value counts as often as its seed was drawn, times as often as its map was.
    """
    rng, weights = np.random.default_rng(seed), np.ones((num_draws, len(values)))
    for factor in factors or [np.arange(len(values))]:
        levels, index = np.unique(factor, return_inverse=True)
        weights *= rng.multinomial(len(levels), np.full(len(levels), 1 / len(levels)), num_draws)[:, index]
    total = weights.sum(1)
    result: Array = (weights @ values)[total > 0] / total[total > 0]
    return result


def bootstrap_ci(values: Array, groups: Sequence[Groups] = (), *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over resampled cases."""
    low, high = np.percentile(bootstrap_means(values, groups, seed=seed), [2.5, 97.5])
    return float(low), float(high)


def summarise(values: Array, groups: Sequence[Groups] = ()) -> dict[str, Any]:
    """Return mean, interval and number of cases.

    Raises:
        ValueError: if no case has the metric.
    """
    there = ~np.isnan(values)
    if not there.any():
        raise ValueError("no case has this metric (all NaN); leave it out of the report")
    low, high = bootstrap_ci(values[there], [g[there] for g in groups])
    return {
        "mean": round(float(values[there].mean()), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "n": int(there.sum()),
    }


def paired(a: Mapping[str, Array], b: Mapping[str, Array], groups: Sequence[Groups] = ()) -> dict[str, dict[str, Any]]:
    """Summarise the difference a - b of every metric both have, case by case."""
    differences = {key: a[key] - b[key] for key in a if key in b}
    return {key: summarise(d, groups) for key, d in differences.items() if not np.isnan(d).all()}


def p_value(
    draws: Array,  # (K,) of a mean difference
) -> float:
    """Return the two-sided bootstrap p-value of a difference of 0: twice the smaller share of draws on either side."""
    smaller = min((draws <= 0).sum(), (draws >= 0).sum())
    return min(1.0, 2 * float(smaller + 1) / (len(draws) + 1))


def verdict(
    draws: Array,  # (K,) of the mean difference, in the direction that was claimed
    by_seed: Sequence[float],  # the mean difference of each training seed
) -> tuple[Verdict, str]:
    """Judge a claim by the rule fixed beforehand, and say why.

    Reproduced in direction: the interval lies above 0 and at least four fifths of five or more training seeds agree in
    sign. Not reproduced: the interval lies below 0. Else inconclusive.
    """
    low, high = np.percentile(draws, [2.5, 97.5])
    agree = sum(mean > 0 for mean in by_seed)
    short = "" if len(by_seed) >= LEAST_SEEDS else f"; {LEAST_SEEDS} are needed to call it reproduced"
    why = f"[{low:.3g}, {high:.3g}], {agree} of {len(by_seed)} training seeds agree{short}"
    if high < 0:
        return "not reproduced", why
    if low > 0 and len(by_seed) >= LEAST_SEEDS and agree >= 0.8 * len(by_seed):
        return "reproduced in direction", why
    return "inconclusive", why


def equivalent(draws: Array, margin: float) -> bool:
    """Tell whether two one-sided tests at 5 % show a mean difference within ``margin`` of 0 (Schuirmann 1987)."""
    low, high = np.percentile(draws, [5, 95])
    return bool(-margin < low and high < margin)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct the p-values of secondary metrics for their number (Holm 1979)."""
    worst, result = 0.0, {}
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        worst = max(worst, min(1.0, (len(p_values) - i) * p_values[name]))
        result[name] = worst
    return {name: result[name] for name in p_values}
