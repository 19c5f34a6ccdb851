"""Success in the simulator against the number of imagined rollouts, and against what a decision costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldenv.base.cluster import check_address
from worldenv.base.config import check_counts, to_dict
from worldenv.base.files import save_text
from worldenv.base.lock import in_use
from worldenv.base.log import git_revision, hardware
from worldenv.envs.arguments import MOST
from worldenv.eval.report.statistics import DESCRIPTION, paired, summarise

from ..environments import EnvConfig
from ..evaluate import check_episodes, check_policies
from ..jobs import Job, OnBatch, run_jobs
from ..ledger import Ledger
from ..pictures import draw_planning
from ..rank import cell, policy_jobs
from .closed_loop import PLACES, Where, check_planning, run_planned
from .planner import PlannerConfig

CLAIM = "at the most rollouts, planning in the world succeeds more often than in a blank one, the interval clear of 0"
METRICS = ("success", "return", "length", "chunks", "seconds")
"""The last two of a decision."""


def default_places(env_id: str) -> tuple[Where, ...]:
    """Return what plans are imagined in unless it is said: what knows of a camera alone is nothing for hands."""
    return ("world",) if "/Hand" in env_id else PLACES


def default_policies(env_id: str) -> tuple[str, ...]:
    """Return who acts beside plans unless others are named."""
    if "/Hand" in env_id:
        return "random", "expert"
    seeking = ("wander", "chase") if "ObjectNav" in env_id else ("straight", "seek_goal")
    return "random", *seeking, "follow:w-192"


def compare_planning(
    config: EnvConfig,
    planning: PlannerConfig,
    *,
    out: Path,
    imagine: Sequence[Where],
    rollouts: Sequence[int],
    policies: Sequence[str],
    episodes: int,
    num_envs: int,
    first_seed: int,
    ray: str = "",  # address of a cluster that runs the batches; see ``worker_pool``
    on_batch: OnBatch = lambda name, count: None,
) -> dict[str, Any]:
    """Run what has not been run yet, and write ``report.json``, ``report.md`` and ``planning.png``.

    Raises:
        ValueError: for what cannot be run, before anything is written; or if the folder holds another comparison.
    """
    check_episodes(episodes=episodes, num_envs=num_envs, first_seed=first_seed)
    check_address(ray)
    config.check_both()
    check_counts(rollouts=min(rollouts, default=0))
    if not imagine and not policies:
        raise ValueError("neither plans nor policies are compared; name some as --imagine or --policies")
    branches = num_envs * (1 + max(rollouts) * planning.lookahead)
    if branches > MOST["num_envs"]:
        raise ValueError(
            f"num_envs={num_envs} with rollouts={max(rollouts)} of lookahead={planning.lookahead} are {branches} "
            f"branches, {MOST['num_envs']} at most are imagined; pass fewer of one of them"
        )
    check_policies(policies, replace(config, dynamics="sim"))
    check_planning(config, planning, imagine)
    arms = {"imagine": list(imagine), "rollouts": sorted(rollouts), "policies": list(policies)}
    settings = {"episodes": episodes, "num_envs": num_envs, "first_seed": first_seed}
    registered = {"claim": CLAIM, **config.registered(), "planning": to_dict(planning), **arms, **settings}
    with in_use(out):
        ledger, seeds = Ledger(out, registered), range(first_seed, first_seed + episodes)
        jobs = [job for name in policies for job in policy_jobs(ledger, name, config, "sim", settings)]
        for count in sorted(rollouts):
            for where in imagine:
                jobs += _jobs(ledger, where, count, config, planning, seeds, num_envs)
        run_jobs(jobs, ledger, on_batch, ray=ray)
        report = as_report(ledger)
        save_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        save_text(out / "report.md", as_page(report))
        draw_planning(out / "planning.png", report["arms"])
        return report


def _jobs(
    ledger: Ledger,
    where: Where,
    count: int,
    config: EnvConfig,
    planning: PlannerConfig,
    seeds: range,
    num_envs: int,
) -> Iterator[Job]:
    """Yield the episodes of one arm that are missing, as many at a time as there are envs."""
    missing = ledger.missing(seeds, imagine=where, rollouts=count)
    for start in range(0, len(missing), num_envs):
        batch = missing[start : start + num_envs]
        yield Job(f"{count} rollouts ({where})", len(batch), partial(_run, where, count, config, planning, batch))


def _run(
    where: Where, count: int, config: EnvConfig, planning: PlannerConfig, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    episodes = run_planned(where, config, planning, rollouts=count, seeds=seeds)
    return [{**vars(episode), "imagine": where, "rollouts": count} for episode in episodes]


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return what episodes brought, and what their decisions cost, (N,) each."""
    found: dict[str, list[float]] = {"success": [row["success"] for row in rows]}
    found["return"] = [row["earned"] if "earned" in row else sum(row["rewards"]) for row in rows]
    found["length"] = [row["length"] for row in rows]
    if rows and "decisions" in rows[0]:
        found |= {key: [row[key] / row["decisions"] for row in rows] for key in ("chunks", "seconds")}
    return {key: np.array(values, np.float64) for key, values in found.items()}


def as_report(ledger: Ledger) -> dict[str, Any]:
    """Return every arm's means, and the differences between what plans were imagined in."""
    said = ledger.registered
    seeds = range(said["first_seed"], said["first_seed"] + said["episodes"])
    arms: dict[str, dict[str, Any]] = {}
    values = {}
    for name in said["policies"]:
        values[name] = measured([r for r in ledger.of(policy=name) if r["seed"] in seeds])
        arms[name] = {"imagine": "", "rollouts": 0}
    for where in said["imagine"]:
        for count in said["rollouts"]:
            rows = [r for r in ledger.of(imagine=where, rollouts=count) if r["seed"] in seeds]
            values[f"{where}, {count}"] = measured(rows)
            arms[f"{where}, {count}"] = {"imagine": where, "rollouts": count}
    for name, found in values.items():
        arms[name] |= {key: summarise(found[key]) for key in METRICS if key in found}
    others = [where for where in said["imagine"] if where != "world"]
    pairs = [(f"world, {n}", f"{other}, {n}") for other in others for n in said["rollouts"]]
    pairs += [(f"world, {said['rollouts'][-1]}", name) for name in said["policies"]]
    scored = {name: {key: found[key] for key in ("success", "return")} for name, found in values.items()}
    differences = {f"{a} - {b}": paired(scored[a], scored[b]) for a, b in pairs if a in values}
    about = {"format": 1, "git": git_revision(), "hardware": hardware(), "ci": DESCRIPTION}
    return {**about, "registered": said, "arms": arms, "differences": differences}


def as_page(report: Mapping[str, Any]) -> str:
    """Render a report as Markdown."""
    said = report["registered"]
    how = said["planning"]
    lines = [
        f"# Planning by imagination: {said['env']['env']}",
        "",
        f"{said['episodes']} episodes in the simulator from seed {said['first_seed']}, {how['planner']}, "
        f"{how['lookahead']} chunks ahead, {how['execute']} taken at a time; {report['hardware']}, git "
        f"{report['git']}. Means with {report['ci']}. Claim, before they were run: {said['claim']}.",
        "",
        *planning_table(report),
        "",
        "| paired difference | success | return |",
        "|---|---|---|",
    ]
    for name, found in report["differences"].items():
        lines.append(f"| {name} | {cell(found['success'])} | {cell(found['return'])} |")
    return "\n".join(lines) + "\n"


def planning_table(report: Mapping[str, Any]) -> list[str]:
    """Return a row for every arm."""
    lines = [
        "| imagined in, rollouts, or policy | success | return | steps | chunks a decision | seconds of a core |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in report["arms"].items():
        cells = [cell(found.get(key)) for key in METRICS]
        label = name if found["rollouts"] else f"`{name}`"
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines
