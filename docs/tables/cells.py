"""Committed reports as rows and cells of tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worldenv.eval.report.document import stands_still
from worldenv.world.files import find_world, world_sha256

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
COMPARED = {
    "return_psnr_self_far": 1,
    "return_psnr_gt_far": 1,
    "seen_psnr": 1,
    "unseen_psnr": 1,
    "contrast_ratio": 2,
    "contrast_ratio_new": 2,
    "contrast_ratio_unseen": 2,
    "motion_ratio": 2,
    "r_dist_deg": 1,
    "action_score": 2,
    "frechet_pose_features": 3,
    "frechet_pose_features_late": 3,
    "frechet_pose_features_unseen": 3,
}
"""What worlds trained differently are compared in, with so many digits."""


def check_packaged(name: str, world: str, sha256: str) -> None:
    """Refuse a report on other weights than those of the packaged world it speaks of.

    Raises:
        SystemExit: naming it.
    """
    if sha256 != world_sha256(find_world(world)):
        sys.exit(f"docs/results/{name}.json speaks of other weights than {world} has; run it again")


def load(name: str) -> dict[str, Any]:
    """Read one committed report."""
    report: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return report


def cell(summary: dict[str, Any], digits: int = 1) -> str:
    """Format a mean with its interval, if there is one."""
    low, high = summary["ci95"]
    interval = "" if summary.get("n") == 1 else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{summary['mean']:.{digits}f}{interval}"


def heading(title: str, first: str, columns: Iterable[str]) -> list[str]:
    """Begin a table: its title, and a row of names."""
    names = [first, *columns]
    return [title, "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def arms_table(name: str, columns: dict[str, int], title: str, *, command: str = "") -> list[str]:
    """Arms of a suite, some of their metrics with so many digits; arms that stand still are marked."""
    report = load(name)
    columns = {c: d for c, d in columns.items() if any(c in metrics for metrics in report["arms"].values())}
    command = command or f"worldenv eval {name} --out DIR"
    seeds = len(report["seeds"])
    title = (
        f"**{title}** (`{command}`, {seeds} trajectories of {report['cases']}, "
        f"{report['hardware']}; means with 95 % intervals)"
    )
    lines, frozen = heading(title, "arm", columns), stands_still(report)
    for arm, metrics in report["arms"].items():
        still = " (stands still: invalid)" if arm in frozen else ""
        lines.append(arm_row(f"`{arm}`{still}", metrics, columns))
    return lines


def arm_row(label: str, metrics: dict[str, Any], columns: dict[str, int]) -> str:
    """Write one arm's row, empty where it has no such metric."""
    cells = [cell(metrics[c], d) if c in metrics else "" for c, d in columns.items()]
    return "| " + " | ".join([label, *cells]) + " |"
