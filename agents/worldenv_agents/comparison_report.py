"""What a comparison of trained policies came to: means with intervals, judged differences, imagined against real."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worldenv.base.files import save_text
from worldenv.base.log import git_revision, hardware
from worldenv.eval.report.claims import Question
from worldenv.eval.report.statistics import crossed_means
from worldenv.eval.suites.run import ArmResult

from .comparison import CURVE, SCORES, Comparison, folder_of, read_curve
from .pictures import draw_fidelity, draw_learning
from .rank import cell

Floats = npt.NDArray[np.float64]
KEY = {"return": "real", "success": "success"}
"""What a metric is called among the scores."""
PAIR = {"return": ("early", "imagined"), "success": ("success", "imagined_success")}
"""What of it is compared with what was imagined."""
CI = "95 % percentile interval of a bootstrap over policies and over episodes, which are the same for all, 10,000 draws"


def write_comparison(
    asked: Comparison,
    out: Path,
    about: Mapping[str, Any],
    *,
    fidelity: Mapping[str, Mapping[str, Any]] | None = None,  # of the arms that have one: mean and ci95
    fidelity_name: str = "",
) -> dict[str, Any]:
    """Write ``report.json``, ``report.md``, ``curves.png`` and, of fidelities, ``fidelity.png``; return the report.

    It says all that is ``about`` it too.
    """
    runs = {
        name: [read_curve(folder_of(out, name, seed) / CURVE) for seed in asked.seeds]
        for name in (*asked.baselines, *asked.arms)
    }
    says = {**asked.baselines, **{name: arm.says for name, arm in asked.arms.items()}}
    arms = {name: {"says": says[name], **_described(lines, asked)} for name, lines in runs.items()}
    curves = {name: [_means(lines) for lines in found] for name, found in runs.items()}
    report = {
        "format": 1,
        "title": asked.title,
        "claim": asked.claim,
        "metric": asked.metric,
        **about,
        "git": git_revision(),
        "hardware": hardware(),
        "ci": CI,
        "arms": arms,
        "differences": _differences(asked, runs),
        "curves": curves,
    }
    if fidelity:
        report["fidelity"] = {"name": fidelity_name, "arms": dict(fidelity)}
        points = {name: (found, arms[name][KEY[asked.metric]]) for name, found in fidelity.items()}
        draw_fidelity(out / "fidelity.png", points, labels=(fidelity_name, f"{asked.metric} in the simulator"))
    save_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    save_text(out / "report.md", as_page(report))
    inside = [name for name, arm in asked.arms.items() if arm.inside]
    draw_learning(out / "curves.png", curves, inside=inside, real=KEY[asked.metric], pair=PAIR[asked.metric])
    return report


def _described(runs: Sequence[Sequence[Mapping[str, Any]]], asked: Comparison) -> dict[str, Any]:
    """Return an arm's means, what of each policy is real, and what its training took."""
    last, count = [lines[-1] for lines in runs], len(runs)
    there = [name for name in SCORES if all(name in line for line in last)]  # not all in files of earlier versions
    found = {name: np.array([line[name] for line in last], np.float64) for name in there}
    row: dict[str, Any] = {name: _summary(values) for name, values in found.items()}
    real, imagined = PAIR[asked.metric]
    if imagined in found and real in found:
        row["gap"] = _summary(found[imagined] - found[real])
    for place in last[0].get("also", {}):
        both = {metric: np.array([line["also"][place][metric] for line in last]) for metric in KEY}
        row.setdefault("also", {})[place] = {metric: _summary(values) for metric, values in both.items()}
    trained = [line for lines in runs for line in lines if line.get("decisions")]
    if trained:
        spent = sum(line["trained_s"] for line in trained)
        row["steps_per_s"] = round(sum(line["decisions"] for line in trained) / spent, 2)
        row["hours"] = round(last[0]["step"] / row["steps_per_s"] / 3600, 3) if row["steps_per_s"] else None
    if "state_bytes" in last[0]:
        row["state_bytes"] = round(sum(line["state_bytes"] for line in last) / count)
    return {
        **row,
        "policies": [round(float(part.mean()), 4) for part in found[KEY[asked.metric]]],
        "trained_s": [round(sum(line["trained_s"] for line in lines), 1) for lines in runs],
        "steps": last[0]["step"],
    }


def _summary(
    values: Floats,  # (P, N) of policies and episodes
) -> dict[str, Any]:
    policies, episodes = np.indices(values.shape)
    low, high = np.percentile(crossed_means(values.ravel(), [policies.ravel(), episodes.ravel()]), [2.5, 97.5])
    mean, ends = float(values.mean()), [round(float(low), 4), round(float(high), 4)]
    return {"mean": round(mean, 4), "ci95": ends, "n": int(values.size)}


def _differences(asked: Comparison, runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Judge the first arm against every other and those that are not trained, by what decides and by the rest."""
    first = next(iter(asked.arms))
    results = {
        f"{name}@{seed}": ArmResult({k: np.array(lines[-1][k], np.float64) for k in KEY.values() if k in lines[-1]})
        for name, found in runs.items()
        for seed, lines in zip(asked.seeds, found, strict=True)
    }
    primary = KEY[asked.metric]
    question = Question(
        claims=tuple((first, name) for name in runs if name != first),
        primary=primary,
        secondary=tuple(key for key in KEY.values() if key != primary),
        margin=asked.margin,
    )
    names = {key: metric for metric, key in KEY.items()}
    judged = question.judge(results, range(asked.first_seed, asked.first_seed + asked.episodes))
    return {pair: {names[key]: said for key, said in found.items()} for pair, found in judged.items()}


def _means(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return a policy's curve: what it earned on average after so many steps and seconds of training."""
    seconds = np.cumsum([line["trained_s"] for line in lines])
    return [
        {
            **({"leg": line["leg"]} if "leg" in line else {}),
            "step": line["step"],
            "trained_s": round(float(spent), 1),
            **{name: round(float(np.mean(line[name])), 4) for name in SCORES if name in line},
        }
        for line, spent in zip(lines, seconds, strict=True)
    ]


def as_page(report: Mapping[str, Any]) -> str:
    """Return the report as tables."""
    metric, likeliest = report["metric"], report.get("registered", {}).get("likeliest")
    lines = [
        f"# {report['title']}",
        "",
        f"Claim, before anything was run: {report['claim']}. What decides is {metric} in the simulator; actions are "
        f"{'the likeliest' if likeliest else 'drawn as in training'}. {report['ci']}. *Early* is what the first steps "
        "of real episodes return, as many as were *imagined*; the *gap* is what is imagined more than is real. A state "
        "is what an env remembers when its episode has ended; hours are of training alone.",
        "",
        *comparison_table(report),
    ]
    places = dict.fromkeys(place for row in report["arms"].values() for place in row.get("also", {}))
    if places:
        lines += ["", f"The same policies elsewhere, {metric}:", ""]
        lines += [f"| | {' | '.join(places)} |", "|---" * (1 + len(places)) + "|"]
        for name, row in report["arms"].items():
            found = (row.get("also", {}).get(place, {}).get(metric) for place in places)
            lines.append(f"| {name} | {' | '.join(map(cell, found))} |")
    lines += ["", f"| difference | {metric} | verdict | why |", "|---|---|---|---|"]
    for pair, judged in report["differences"].items():
        if metric in judged:
            said = judged[metric]
            same = said.get("equivalent")
            equal = f"; equal within {same['margin']:g}: {'shown' if same['shown'] else 'not shown'}" if same else ""
            lines.append(f"| {pair} | {cell(said)} | {said['verdict']} | {said['why']}{equal} |")
    lines += ["", "![imagined and real over training](curves.png)"]
    lines += ["", "![fidelity](fidelity.png)"] if "fidelity" in report else []
    return "\n".join([*lines, "", f"{report['hardware']}, {report['git']}"]) + "\n"


COLUMNS = {
    "real success": "success",
    "return": "real",
    "steps": "length",
    "early return": "early",
    "imagined return": "imagined",
    "imagined success": "imagined_success",
    "gap": "gap",
}


def comparison_table(report: Mapping[str, Any]) -> list[str]:
    """Return a row for every arm and every policy that is not trained."""
    titles = ("", *COLUMNS, "each policy", "decisions", "hours", "decisions/s", "state, KB an env")
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, row in report["arms"].items():
        cells = [f"`{name}`: {row['says']}", *(cell(row.get(key)) for key in COLUMNS.values())]
        cells += [", ".join(f"{x:.2f}" for x in row["policies"]), f"{row['steps']:,}" if row["steps"] else ""]
        cells += [str(row.get(key) or "") for key in ("hours", "steps_per_s")]
        cells.append(f"{row['state_bytes'] / 1000:,.0f}" if "state_bytes" in row else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines
