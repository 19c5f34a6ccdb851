"""Reports: means with bootstrap intervals as JSON and as a page, trajectories as CSV; timings apart from results."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...base.documents import is_format, read_json
from ...base.files import replacing, save_text
from ...base.lock import NAME
from ...base.log import console, git_revision, hardware
from ...base.said import check_path
from ..image import Array
from .statistics import DESCRIPTION, Estimate, paired, summarise

MOST = 1e300
"""The largest number of a report."""
LEAST_MOTION = 0.5
"""Share of the true motion below which an arm's consistency says nothing: it stands still."""


def write_report(
    path: Path,
    *,
    suite: str,
    protocol: str,
    world: Mapping[str, str],
    seeds: list[int],
    arms: Mapping[str, Mapping[str, Array]],
    timing: Mapping[str, float],
    against: Sequence[tuple[str, str]] = (),
    kinds: Sequence[str] = (),
    figures: Mapping[str, Mapping[str, Estimate]] | None = None,
    skipped: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write report.json (format 1) and return it; beside it trajectories.csv and report.md.

    ``seeds`` are the maps of the cases: what intervals are drawn over. ``against`` names the pairs of arms whose
    differences are reported, ``figures`` what is measured of an arm as a whole, ``skipped`` the metrics that could not
    be computed and why.
    """
    groups, whole = [np.asarray(seeds)], figures or {}
    summaries = {arm: {k: summarise(v, groups) for k, v in metrics.items()} for arm, metrics in arms.items()}
    differences = {f"{a} - {b}": paired(arms[a], arms[b], groups) for a, b in against}
    for arm, found in whole.items():
        summaries[arm] |= {k: figure.summary() for k, figure in found.items()}
    for a, b in against if whole else ():
        shared = {k: whole[a][k] - whole[b][k] for k in whole[a] if k in whole[b]}
        differences[f"{a} - {b}"] |= {k: figure.summary() for k, figure in shared.items() if figure.draws is not None}
    report = {
        "format": 1,
        "suite": suite,
        "protocol": protocol,
        "world": dict(world),
        "git": git_revision(),
        "hardware": hardware(),
        "seeds": seeds,
        "ci": DESCRIPTION,
        "arms": summaries,
        "differences": differences,
        "timing": {k: round(v, 3) for k, v in timing.items()},
        "skipped": dict(skipped or {}),
        **more,
    }
    save_text(path, json.dumps(report, indent=1, allow_nan=False))
    _write_trajectories(path.with_name("trajectories.csv"), seeds, list(kinds), arms)
    save_text(path.with_name("report.md"), as_page(report))
    return report


def _write_trajectories(
    path: Path, seeds: list[int], kinds: list[str], arms: Mapping[str, Mapping[str, Array]]
) -> None:
    """Write one row per trajectory and arm; a metric that a trajectory lacks stays empty."""
    names = list(dict.fromkeys(name for metrics in arms.values() for name in metrics))
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["arm", "seed", *(["path"] if kinds else []), *names])
        writer.writeheader()
        for arm, metrics in arms.items():
            for i, seed in enumerate(seeds):
                row = {name: round(float(v[i]), 6) for name, v in metrics.items() if not np.isnan(v[i])}
                writer.writerow({"arm": arm, "seed": seed, **({"path": kinds[i]} if kinds else {}), **row})


def as_page(report: Mapping[str, Any]) -> str:
    """Render a report as Markdown: a row per metric; arms, paired differences, what was skipped, timing."""
    world = report["world"]
    lines = [
        f"# {report['suite']}: {world['name']}",
        "",
        f"{len(report['seeds'])} trajectories, protocol {report['protocol']}, {report['hardware']}, git "
        f"{report['git']}. Means with {report['ci']}.",
    ]
    still = stands_still(report)
    if still:
        lines += [
            "",
            f"Arms that move less than {LEAST_MOTION:.0%} of the truth are invalid as worlds, however "
            f"consistent: {', '.join(still)}.",
        ]
    lines += _verdicts(report.get("verdicts", {}))
    for title, columns in (("metric", report["arms"]), ("paired difference", report["differences"])):
        if columns:
            names = list(dict.fromkeys(name for metrics in columns.values() for name in metrics))
            heads = [f"{arm} (invalid)" if title == "metric" and arm in still else arm for arm in columns]
            lines += ["", f"| {title} | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
            lines += [
                f"| {name} | " + " | ".join(_cell(metrics.get(name)) for metrics in columns.values()) + " |"
                for name in names
            ]
    if report["timing"]:
        lines += ["", "| timing | |", "|---|---|", *(f"| {k} | {v:g} |" for k, v in report["timing"].items())]
    lines += [f"\n{name} was skipped: {reason}" for name, reason in report["skipped"].items()]
    return "\n".join(lines) + "\n"


def _verdicts(verdicts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rows of the claims, metric by metric: gains above 0 are in the direction that was claimed."""
    if not verdicts:
        return []
    rows = [
        f"| {claim} | {metric} | {_cell(said)} | {said['p']:.2g} | {said['verdict']}{_sameness(said)}: {said['why']} |"
        for claim, judged in verdicts.items()
        for metric, said in judged.items()
    ]
    return ["", "| claim | metric | gain | p | verdict |", "|---|---|---|---|---|", *rows]


def _sameness(said: Mapping[str, Any]) -> str:
    if "equivalent" not in said:
        return ""
    margin, shown = said["equivalent"]["margin"], said["equivalent"]["shown"]
    return f", {'equal' if shown else 'not shown to be equal'} within {margin:g}"


def stands_still(report: Mapping[str, Any]) -> list[str]:
    """Name the arms whose pictures move too little for their consistency to mean anything."""
    motion = {
        arm: metrics["motion_ratio"]["mean"] for arm, metrics in report["arms"].items() if "motion_ratio" in metrics
    }
    return [arm for arm, ratio in motion.items() if ratio < LEAST_MOTION]


def _cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return ""
    low, high = summary["ci95"]
    interval = "" if summary.get("n") == 1 else f" [{low:.3g}, {high:.3g}]"
    return f"{summary['mean']:.3g}{interval}"


RETURNING = {"self": "return_psnr_self", "far": "return_psnr_self_far", "truth": "return_psnr_gt"}
ANYWHERE = {"psnr": "psnr", "ssim": "ssim", "new": "unseen_psnr"}
ALWAYS = {"seen": "seen_psnr", "contrast": "contrast_ratio", "motion": "motion_ratio", "action": "action_score"}
"""Metrics of the table on the console, by its headings; the report has all."""


def print_written(out: Path) -> None:
    """Say what there is to look at in a suite's folder, which is still held."""
    written = sorted(path.name for path in out.iterdir() if path.is_file() and path.name != NAME)
    console.print(f"wrote {', '.join(written)} to {out}")


def print_arms(report: Mapping[str, Any]) -> None:
    """Print the arms as a table, invalid ones marked."""
    from rich.table import Table

    arms, still = report["arms"], stands_still(report)
    there = {name for metrics in arms.values() for name in metrics}
    wanted = (RETURNING if "return_psnr_self" in there else ANYWHERE) | ALWAYS
    shown = {head: name for head, name in wanted.items() if name in there}
    decibels = ", ".join(head for head, name in shown.items() if "psnr" in name)
    units = f"dB: {decibels}; " if decibels else ""
    table = Table(title=f"{report['suite']}, means ({units}* stands still)")
    table.add_column("arm", no_wrap=True)
    for head in shown:
        table.add_column(head, justify="right", no_wrap=True)
    for arm, metrics in arms.items():
        cells = [f"{metrics[name]['mean']:.2f}" if name in metrics else "" for name in shown.values()]
        table.add_row(f"{arm} *" if arm in still else arm, *cells)
    console.print(table)


def read_report(path: Path) -> dict[str, Any]:
    """Read a report: a file, or a folder with one.

    Raises:
        ValueError: naming the file and the field that is none of a report's.
    """
    file = path / "report.json" if check_path(path).is_dir() else path
    report = read_json(file)
    if not isinstance(report, dict) or not is_format(report.get("format"), 1):
        found = report.get("format") if isinstance(report, dict) else report
        raise ValueError(f"{file}: no report of format 1, {str(found)[:80]!r}; pass report.json, from worldenv eval")
    for name, kind in (("suite", str), ("protocol", str), ("seeds", list), ("arms", dict)):
        if not isinstance(report.get(name), kind):
            raise ValueError(f"{file}: {name} is {str(report.get(name))[:80]!r}, a report has a {kind.__name__} there")
    if not all(type(seed) is int for seed in report["seeds"]):
        raise ValueError(f"{file}: seeds are {str(report['seeds'])[:80]}, a report has whole numbers there")
    for arm, metrics in report["arms"].items():
        if not isinstance(metrics, dict):
            raise ValueError(f"{file}: arms.{arm} is {str(metrics)[:80]!r}, not a table of metrics")
        for metric, figure in metrics.items():
            if not _is_figure(figure):
                raise ValueError(
                    f"{file}: arms.{arm}.{metric} is {str(figure)[:80]!r}; it has a mean, ci95 of two finite numbers, "
                    "the smaller first, and n, a count"
                )
    return report


def _is_figure(figure: Any) -> bool:
    """Tell whether this is a mean with its interval."""
    if not isinstance(figure, dict) or not isinstance(figure.get("ci95"), list) or len(figure["ci95"]) != 2:
        return False
    numbers = [figure.get("mean"), *figure["ci95"]]
    if not all(type(one) in (int, float) and abs(one) <= MOST for one in numbers):
        return False
    return bool(figure["ci95"][0] <= figure["ci95"][1]) and type(figure.get("n")) is int and 0 <= figure["n"] < 2**63


def compare(first: Path, second: Path) -> None:
    """Print two reports side by side: what both measured, with intervals, and which differ beyond them."""
    from rich.table import Table

    a, b = (read_report(path) for path in (first, second))
    if (a["suite"], a["protocol"]) != (b["suite"], b["protocol"]):
        raise ValueError(f"{first} is {a['suite']} {a['protocol']}, {second} is {b['suite']} {b['protocol']}")
    table = Table("arm", "metric", str(first), str(second), "", title=f"{a['suite']}, {a['protocol']}")
    for arm in (x for x in a["arms"] if x in b["arms"]):
        for metric in (x for x in a["arms"][arm] if x in b["arms"][arm]):
            x, y = a["arms"][arm][metric], b["arms"][arm][metric]
            apart = min(x["n"], y["n"]) > 1 and (x["ci95"][1] < y["ci95"][0] or y["ci95"][1] < x["ci95"][0])
            table.add_row(
                arm, metric, _cell(x), _cell(y), ("higher" if y["mean"] > x["mean"] else "lower") if apart else ""
            )
    console.print(table)
    console.print("the same cases" if a["seeds"] == b["seeds"] else "other cases: compare means with care")
