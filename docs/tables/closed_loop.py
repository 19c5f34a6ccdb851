"""Closed loops: what planning in a world brings in its simulator, and how a world ranks policies."""

from __future__ import annotations

from typing import Any

from cells import RESULTS, cell, check_packaged, heading, load

DECISION = {"success": 2, "return": 2, "length": 1, "chunks": 1, "seconds": 2}
FIGURES = ("pearson", "spearman", "mmrv", "agreement", "agreement_near", "pearson_near", "gap", "bias", "slope")
PLACES = ("world", "sim")
LOOPS = ("loop-revisit_transfer", "loop-revisit_control", "loop-hand_correction")
TRAINED = {
    "success": "success",
    "return": "real",
    "imagined success": "imagined_success",
    "imagined return": "imagined",
    "gap": "gap",
}


def planning_table() -> list[str]:
    """Return success against imagined rollouts and against what they cost, and what that is better than."""
    if not (RESULTS / "planning.json").is_file():
        return ["Not run yet: `make closed-loop`."]
    report = load("planning")
    said, how = report["registered"], report["registered"]["planning"]
    title = (
        f"`{said['env']['env']}`, {said['env']['action_mode'] or 'basic5'}, {said['episodes']} episodes of "
        f"{said['env']['max_episode_steps'] or 48} chunks in the simulator from seed {said['first_seed']}; "
        f"{how['planner']}, {how['lookahead']} chunks ahead, {how['execute']} done at a time; {report['hardware']}; "
        f"means with 95 % intervals. Claim: {said['claim']}."
    )
    names = ("success", "return", "steps", "chunks a decision", "seconds of a core")
    lines = heading(title, "imagined in, rollouts, or policy", names)
    for name, found in report["arms"].items():
        figures = [cell(found[key], digits) if key in found else "" for key, digits in DECISION.items()]
        lines.append(f"| {name if found['rollouts'] else f'`{name}`'} | " + " | ".join(figures) + " |")
    lines += ["", *heading("Paired differences:", "", ("success", "return"))[2:]]
    for name, found in report["differences"].items():
        lines.append(f"| {name} | {cell(found['success'], 2)} | {cell(found['return'], 2)} |")
    return lines


def ranking_table(name: str = "ranking", *, target: str = "closed-loop") -> list[str]:
    """Return what policies earn in a world and in its simulator, and how the one foretells the other by horizon."""
    if not (RESULTS / f"{name}.json").is_file():
        return [f"Not run yet: `make {target}`."]
    report = load(name)
    said = report["registered"]
    if "weights" in said:  # comparisons of earlier versions do not say
        check_packaged(name, said["env"]["world"], said["weights"])
    title = (
        f"`{said['env']['env']}`, {len(said['policies'])} policies, {said['episodes']} episodes each from seed "
        f"{said['first_seed']}; {report['hardware']}; means with {report['ci']}. Claim: {said['claim']}."
    )
    lines = heading(title, "steps", ("of", *(name.replace("_", " ") for name in FIGURES)))
    for horizon, by in report["ranking"].items():
        for metric, found in by.items():
            lines.append(f"| {horizon} | {metric} | " + " | ".join(_figure(found, name) for name in FIGURES) + " |")
    columns = ("return, world", "simulator", "success, world", "simulator")
    lines += ["", *heading("", "policy", columns)[2:]]
    for row in report["rows"]:
        figures = [cell(row[place][key], 2) for key in ("return", "success") for place in PLACES]
        lines.append(f"| `{row['policy']}` | " + " | ".join(figures) + " |")
    return lines


def loops_table() -> list[str]:
    """Return what was really achieved by policies trained in each arm of the tables of ``configs/loops``."""
    names = [name for name in LOOPS if (RESULTS / f"{name}.json").is_file()]
    lines = [] if names else ["Not run yet: `make loops`."]
    for name in names:
        report = load(name)
        title = f"{report['title']} ({report['hardware']}; means with {report['ci']}). Claim: {report['claim']}."
        lines += heading(title, "trained", (*TRAINED, "decisions", "hours", "decisions/s"))
        for arm, row in report["arms"].items():
            figures = [cell(row[key], 2) if key in row else "" for key in TRAINED.values()]
            spent = [f"{row['steps']:,}", *(str(row.get(key) or "") for key in ("hours", "steps_per_s"))]
            lines.append(f"| `{arm}`: {row['says']} | " + " | ".join((*figures, *spent)) + " |")
        lines += ["", *heading("", "difference", (report["metric"], "verdict"))[2:]]
        for pair, judged in report["differences"].items():
            said = judged[report["metric"]]
            lines.append(f"| {pair} | {cell(said, 2)} | {said['verdict']}: {said['why']} |")
        lines.append("")
    return lines[:-1] if names else lines


def _figure(found: dict[str, Any], name: str) -> str:
    return cell(found[name], 2) if name in found else ""
