"""What a comparison of agents came to: means with intervals, differences, and imagined against real return."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worldenv.base.files import save_text
from worldenv.base.log import JsonlLog, git_revision, hardware
from worldenv.eval.report.pictures import draw_returns
from worldenv.eval.report.statistics import paired, summarise

Floats = npt.NDArray[np.float64]
CURVE = "curve.jsonl"
SCORES = ("real", "length", "early", "imagined")
MEANS = {
    "random": "random actions",
    "world": "PPO trained inside the world alone",
    "imagination": "actor-critic of short imagined episodes, inside alone",
    "real": "PPO on as many real frames as the world was made of",
    "blank": "PPO trained inside, seeing nothing",
    "simulator": "PPO in the environment, as many steps as inside the world",
}
"""What each arm is."""


def write_gain(out: Path, config: Mapping[str, Any], *, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Write ``report.json``, ``report.md`` and ``curves.png``; return the report."""
    curves = {arm: [read_curve(out / f"{arm}-{seed}" / CURVE) for seed in seeds] for arm in arms}
    scores = {arm: _last(lines) for arm, lines in curves.items()}
    groups = [np.repeat(np.asarray(seeds), len(scores["random"]["real"]) // len(seeds))]
    others = [arm for arm in arms if arm != "world"] if "world" in arms else []
    report = {
        "environment": config["learner"]["environment"],
        "config": dict(config),
        "git": git_revision(),
        "hardware": hardware(),
        "ci": "95 % percentile interval of a bootstrap over policies, and over the episodes of each",
        "arms": {
            arm: {
                **{name: summarise(found[name], groups) for name in SCORES},
                "policies": [round(float(part.mean()), 4) for part in np.split(found["real"], len(seeds))],
                "trained_s": [round(sum(line["trained_s"] for line in lines), 1) for lines in curves[arm]],
                "steps": curves[arm][0][-1]["step"],
            }
            for arm, found in scores.items()
        },
        "differences": {f"world - {arm}": paired(scores["world"], scores[arm], groups)["real"] for arm in others},
        "curves": {arm: [_means(lines) for lines in found] for arm, found in curves.items()},
    }
    save_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    save_text(out / "report.md", as_page(report))
    draw_returns(out / "curves.png", report["curves"])
    return report


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Read what a policy was scored after each of its legs; nothing if it was not yet.

    Raises:
        ValueError: naming the line that is no score.
    """
    lines = JsonlLog.read(path)
    for number, line in enumerate(lines, 1):
        told = [[line.get("step")], [line.get("trained_s")], *(line.get(name) or [None] for name in SCORES)]
        if not all(isinstance(some, list) and all(isinstance(x, int | float) for x in some) for some in told):
            raise ValueError(f"{path}: line {number} is no score of a policy; the file was damaged or edited")
    return lines


def _last(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Floats]:
    """Return the last scores of all policies of an arm, one behind the other."""
    return {name: np.concatenate([np.asarray(lines[-1][name], np.float64) for lines in runs]) for name in SCORES}


def _means(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return a policy's curve: what it earned on average after so many steps and seconds of training."""
    seconds = np.cumsum([line["trained_s"] for line in lines])
    return [
        {
            "step": line["step"],
            "trained_s": round(float(spent), 1),
            **{name: round(float(np.mean(line[name])), 4) for name in SCORES},
        }
        for line, spent in zip(lines, seconds, strict=True)
    ]


def as_page(report: Mapping[str, Any]) -> str:
    """Return the report as a table."""
    place, horizon = report["environment"], report["environment"]["horizon"]
    lines = [
        f"# What an agent gains from {place['world']}",
        "",
        f"Scored in {place.get('sim_env', 'the recorded environment')}, actions drawn as in training; {report['ci']}. "
        f"*Imagined* is what the world says of the first {horizon} steps of an episode, *real, early* what these earn.",
        "",
        "| | real return | each policy | steps of an episode | real, early | imagined | steps | training, min |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, row in report["arms"].items():
        each, minutes = ", ".join(f"{x:.2f}" for x in row["policies"]), np.mean(row["trained_s"]) / 60
        rest = " | ".join(_interval(row[name]) for name in SCORES[1:])
        lines.append(
            f"| {MEANS[arm]} | {_interval(row['real'])} | {each} | {rest} | {row['steps']:,} | {minutes:.1f} |"
        )
    lines += ["", *(f"* {name}: {_interval(found)}" for name, found in report["differences"].items())]
    lines += ["", "![imagined and real return over training](curves.png)", "", f"{report['hardware']}, {report['git']}"]
    return "\n".join(lines) + "\n"


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{found['mean']:.2f} [{low:.2f}, {high:.2f}]"
