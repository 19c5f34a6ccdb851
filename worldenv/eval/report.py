"""Reports: means with bootstrap intervals as JSON and as a page, trajectories as CSV; timings apart from results."""

from __future__ import annotations

import csv
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
    """Write report.json (format 1) and return it; beside it trajectories.csv and report.md."""
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
    _write_trajectories(path.with_name("trajectories.csv"), seeds, arms)
    path.with_name("report.md").write_text(as_page(report))
    return report


def _write_trajectories(path: Path, seeds: list[int], arms: Mapping[str, Mapping[str, Array]]) -> None:
    """Write one row per trajectory and arm."""
    names = list(dict.fromkeys(name for metrics in arms.values() for name in metrics))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["arm", "seed", *names])
        writer.writeheader()
        for arm, metrics in arms.items():
            for i, seed in enumerate(seeds):
                row = {name: round(float(values[i]), 6) for name, values in metrics.items()}
                writer.writerow({"arm": arm, "seed": seed, **row})


def as_page(report: Mapping[str, Any]) -> str:
    """Render a report as Markdown: arms, paired differences, what was skipped."""
    world = report["world"]
    lines = [
        f"# {report['suite']}: {world['name']}", "",
        f"{len(report['seeds'])} trajectories, protocol {report['protocol']}, {report['hardware']}, git "
        f"{report['git']}. Means with {report['ci']}.",
    ]  # fmt: skip
    for title, rows in (("arm", report["arms"]), ("difference, paired", report["differences"])):
        if rows:
            names = list(dict.fromkeys(name for metrics in rows.values() for name in metrics))
            lines += ["", f"| {title} | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
            lines += [
                f"| {arm} | " + " | ".join(_cell(metrics.get(name)) for name in names) + " |"
                for arm, metrics in rows.items()
            ]
    lines += [f"\n{name} was skipped: {reason}" for name, reason in report["skipped"].items()]
    return "\n".join(lines) + "\n"


def _cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return ""
    low, high = summary["ci95"]
    return f"{summary['mean']:.3g} [{low:.3g}, {high:.3g}]"
