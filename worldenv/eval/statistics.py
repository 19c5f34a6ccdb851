"""Means of samples that are not independent: bootstraps, paired differences, and the verdict on a claim.

Trajectories lie in worlds (nested); training seeds meet the same worlds (crossed). Who resamples trajectories alone
believes too much, and so does who draws worlds anew within each seed: what is hard in a map is hard for all of them.
Values are NaN where a trajectory has no such metric; those are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .image import Array

NUM_DRAWS = 10_000
DESCRIPTION = "95 % percentile interval of a hierarchical bootstrap (seed, world, trajectory), 10,000 draws"
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


def crossed_ci(values: Array, factors: Sequence[Groups] = ()) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over resampled seeds and maps."""
    low, high = np.percentile(crossed_means(values, factors), [2.5, 97.5])
    return float(low), float(high)


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
        "mean": round(float(values[there].mean()), 4), "ci95": [round(low, 4), round(high, 4)], "n": int(there.sum()),
    }  # fmt: skip


def paired(a: Mapping[str, Array], b: Mapping[str, Array], groups: Sequence[Groups] = ()) -> dict[str, dict[str, Any]]:
    """Summarise the difference a - b of every metric both have, case by case."""
    differences = {key: a[key] - b[key] for key in a if key in b}
    return {key: summarise(d, groups) for key, d in differences.items() if not np.isnan(d).all()}


def p_value(
    differences: Array,  # (N,) paired
    factors: Sequence[Groups] = (),
) -> float:
    """Return the two-sided bootstrap p-value of a mean of 0: twice the smaller share of draws on either side."""
    means = crossed_means(differences, factors)
    smaller = min((means <= 0).sum(), (means >= 0).sum())
    return min(1.0, 2 * float(smaller + 1) / (len(means) + 1))


def verdict(
    differences: Array,  # (N,) paired, in the direction that was claimed
    seeds: Groups,  # (N,) training seed of each
    maps: Groups,  # (N,)
) -> tuple[Verdict, str]:
    """Judge a claim by the rule fixed beforehand, and say why.

    Reproduced in direction: the interval lies above 0 and at least four fifths of five or more training seeds agree in
    sign. Not reproduced: the interval lies below 0. Else inconclusive.
    """
    low, high = crossed_ci(differences, [seeds, maps])
    means = [float(differences[seeds == s].mean()) for s in np.unique(seeds)]
    agree = sum(m > 0 for m in means)
    short = "" if len(means) >= LEAST_SEEDS else f"; {LEAST_SEEDS} are needed to call it reproduced"
    why = f"[{low:.3g}, {high:.3g}], {agree} of {len(means)} training seeds agree{short}"
    if high < 0:
        return "not reproduced", why
    if low > 0 and len(means) >= LEAST_SEEDS and agree >= 0.8 * len(means):
        return "reproduced in direction", why
    return "inconclusive", why


def equivalent(differences: Array, factors: Sequence[Groups], margin: float) -> bool:
    """Tell whether two one-sided tests at 5 % show a mean difference within ``margin`` of 0 (Schuirmann 1987)."""
    low, high = np.percentile(crossed_means(differences, factors), [5, 95])
    return bool(-margin < low and high < margin)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct the p-values of secondary metrics for their number (Holm 1979)."""
    worst, result = 0.0, {}
    for i, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        worst = max(worst, min(1.0, (len(p_values) - i) * p_values[name]))
        result[name] = worst
    return {name: result[name] for name in p_values}
