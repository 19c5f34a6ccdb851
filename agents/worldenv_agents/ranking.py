"""How well a world ranks policies: what they earn in it against what they earn in its simulator.

Correlations over all policies flatter a world, for some policies are far apart anywhere; so those of policies that are
close to one another are told beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from worldenv.eval.report.statistics import draw_weights

Floats = npt.NDArray[np.float64]

NEAR = 0.2
"""Policies are close to one another up to so much of success, or so large a share of the spread of all returns."""
NUM_DRAWS = 2_000


def figures(
    world: Floats,  # (P,) what each policy earns in the world
    real: Floats,  # (P,) and in the simulator
    *,
    near: float,  # up to which difference in the simulator two policies are close
) -> dict[str, float]:
    """Return what the one tells of the other; NaN where nothing varies.

    ``mmrv`` is the mean maximum rank violation of SIMPLER (Li et al. 2024): how much, in what is really earned, the
    worst of a policy's comparisons is wrong by. ``agreement`` is the share of pairs in the right order, ``gap`` the
    mean absolute difference, ``slope`` and ``offset`` the line by which the real ones follow from the world's.
    """
    first, second = np.triu_indices(len(real), 1)
    ahead, really = world[first] - world[second], real[first] - real[second]
    differ = really != 0
    close = differ & (np.abs(really) <= near)
    slope, offset = np.polyfit(world, real, 1) if world.std() > 0 else (np.nan, np.nan)
    return {
        "pearson": correlation(world, real),
        "spearman": correlation(ranks(world), ranks(real)),
        "mmrv": violation(world, real),
        "agreement": _share(ahead[differ] * really[differ] > 0),
        "agreement_near": _share(ahead[close] * really[close] > 0),
        "pearson_near": correlation(ahead[close], really[close], centre=False),
        "gap": float(np.abs(world - real).mean()),
        "bias": float((world - real).mean()),
        "slope": float(slope),
        "offset": float(offset),
    }


def correlation(a: Floats, b: Floats, *, centre: bool = True) -> float:
    """Return Pearson's coefficient, (N,) each; uncentred for differences, whose sign is arbitrary."""
    x, y = (a - a.mean(), b - b.mean()) if centre and len(a) else (a, b)
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 1e-12 else np.nan


def ranks(values: Floats) -> Floats:
    """Return ranks (N,), the mean of theirs for values that are equal."""
    below, equal = values[:, None] > values, values[:, None] == values
    result: Floats = below.sum(1) + (equal.sum(1) - 1) / 2
    return result


def violation(world: Floats, real: Floats) -> float:
    """Return the mean maximum rank violation of values (P,)."""
    apart = np.abs(real[:, None] - real)
    wrong = (world[:, None] < world) != (real[:, None] < real)
    return float((apart * wrong).max(1).mean())


def _share(right: npt.NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else np.nan


def compare(
    world: Floats,  # (P, N) of each policy and episode
    real: Floats,  # (P, N) of the same starts
    *,
    near: float | None = None,  # None: a share ``NEAR`` of the spread of the real means
) -> dict[str, dict[str, Any]]:
    """Return every figure with a 95 % bootstrap interval: episodes are drawn, the same of all policies in both."""
    close = NEAR * float(np.ptp(real.mean(1))) if near is None else near
    weights = draw_weights([np.arange(world.shape[1])], num_draws=NUM_DRAWS)
    weights /= weights.sum(1, keepdims=True)
    drawn = [figures(w, r, near=close) for w, r in zip(weights @ world.T, weights @ real.T, strict=True)]
    result: dict[str, dict[str, Any]] = {}
    for name, value in figures(world.mean(1), real.mean(1), near=close).items():
        draws = np.array([one[name] for one in drawn])
        draws = draws[~np.isnan(draws)]
        if np.isnan(value) or not len(draws):
            continue
        low, high = np.percentile(draws, [2.5, 97.5])
        result[name] = {
            "mean": round(value, 4),
            "ci95": [round(float(low), 4), round(float(high), 4)],
            "n": int(world.shape[1]),
        }
    return result
