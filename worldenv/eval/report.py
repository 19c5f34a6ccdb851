"""Reports: means with bootstrap intervals, JSON without NaN, timings apart from results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..base.log import git_revision, hardware
from .image import Array

NUM_DRAWS = 10_000


def bootstrap_ci(
    values: Array,  # (N,)
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over resampled cases."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(values), size=(NUM_DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def summarise(values: Array) -> dict[str, Any]:
    """Return mean, interval and number of cases."""
    low, high = bootstrap_ci(values)
    return {"mean": round(float(values.mean()), 4), "ci95": [round(low, 4), round(high, 4)], "n": len(values)}


def paired(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, Any]:
    """Summarise the difference a - b of every metric both have, case by case."""
    return {key: summarise(a[key] - b[key]) for key in a if key in b}


def write_report(
    path: Path,
    *,
    suite: str,
    protocol: str,
    world: Mapping[str, str],
    seeds: list[int],
    arms: Mapping[str, Mapping[str, Array]],
    timing: Mapping[str, float],
    differences: Mapping[str, Any] | None = None,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write report.json (format 1) and return it."""
    report = {
        "format": 1,
        "suite": suite,
        "protocol": protocol,
        "world": dict(world),
        "git": git_revision(),
        "hardware": hardware(),
        "seeds": seeds,
        "ci": "95 % bootstrap percentile interval over worlds, 10,000 draws",
        "arms": {arm: {k: summarise(v) for k, v in metrics.items()} for arm, metrics in arms.items()},
        "differences": dict(differences or {}),
        "timing": {k: round(v, 3) for k, v in timing.items()},
        "skipped": dict(skipped or {}),
    }
    path.write_text(json.dumps(report, indent=1, allow_nan=False))
    return report
