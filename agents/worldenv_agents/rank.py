"""Rank policies in a world and in its simulator, on the same starts, and tell how far the one foretells the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worldenv.base.cluster import check_address
from worldenv.base.files import save_text
from worldenv.base.lock import in_use
from worldenv.base.log import git_revision, hardware
from worldenv.eval.report.statistics import summarise

from .environments import EnvConfig
from .evaluate import check_episodes, check_policies, evaluate_named
from .jobs import Job, OnBatch, run_jobs
from .ledger import EPISODES, Ledger
from .pictures import draw_foretold
from .ranking import NEAR, compare

PLACES = ("world", "sim")
CLAIM = (
    "at the longest horizon the returns of policies in the world and in its simulator have a Pearson of 0.95 or more"
)
WALKERS = (
    "random",
    "wander",
    "out_and_back",
    "follow:w-192",
    "straight",
    "seek_goal",
    *(f"epsilon:{level}:{name}" for level in (0.2, 0.4, 0.6) for name in ("straight", "seek_goal")),
)
"""Policies that are ranked by default on tasks with a goal that is given as a place."""
LOOKERS = (
    "random",
    "wander",
    "out_and_back",
    "follow:w-192",
    "follow:right-16, w-176",
    "follow:right-8, w-184",
    "chase",
    *(f"epsilon:{level}:{name}" for level in (0.2, 0.4, 0.6) for name in ("chase", "wander")),
)
"""And on those of ``ObjectNav``."""
HANDS = ("random", "expert", *(f"noisy:{level}" for level in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)))
"""And on those of hands."""


def default_policies(env_id: str) -> tuple[str, ...]:
    """Return the policies that are ranked on an environment unless others are named."""
    return HANDS if "/Hand" in env_id else LOOKERS if "ObjectNav" in env_id else WALKERS


def rank(
    policies: Sequence[str],
    config: EnvConfig,
    *,
    out: Path,
    episodes: int,
    num_envs: int,
    first_seed: int,
    horizons: Sequence[int],  # steps after which they are compared; the limit of an episode is the last of them
    ray: str = "",  # address of a cluster that runs the batches; see ``worker_pool``
    on_batch: OnBatch = lambda name, count: None,
) -> dict[str, Any]:
    """Run what has not been run yet, and write ``report.json``, ``report.md`` and ``ranking.png``.

    Raises:
        ValueError: for fewer than three policies, or what cannot be run, before anything is written; or if the folder
            holds another comparison.
    """
    if len(policies) < 3:
        raise ValueError(f"{len(policies)} policies cannot be ranked; name at least three")
    if not horizons or min(horizons) < 1:
        raise ValueError(f"horizons={tuple(horizons)}; pass one or more numbers of steps, each at least 1")
    check_episodes(episodes=episodes, num_envs=num_envs, first_seed=first_seed)
    check_address(ray)
    config.check_both()
    if config.max_episode_steps not in (None, max(horizons)):
        raise ValueError(
            f"max_episode_steps={config.max_episode_steps}: episodes end at the last of horizons; leave it out"
        )
    limited = replace(config, max_episode_steps=max(horizons))
    for place in PLACES:
        check_policies(policies, replace(limited, dynamics=place))
    settings = {"episodes": episodes, "num_envs": num_envs, "first_seed": first_seed, "horizons": sorted(horizons)}
    registered = {"claim": CLAIM, **limited.registered(), "policies": list(policies), **settings}
    with in_use(out):
        ledger = Ledger(out, registered)
        jobs = [
            job for place in PLACES for name in policies for job in policy_jobs(ledger, name, limited, place, settings)
        ]
        run_jobs(jobs, ledger, on_batch, ray=ray)
        report = as_report(ledger)
        save_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        save_text(out / "report.md", as_page(report))
        _draw(out / "ranking.png", ledger, report)
        return report


def policy_jobs(ledger: Ledger, name: str, where: EnvConfig, place: str, settings: Mapping[str, Any]) -> Iterator[Job]:
    """Yield the batches of a policy's episodes in one place that were not run yet."""
    count, size, first = settings["episodes"], settings["num_envs"], settings["first_seed"]
    for start in range(first, first + count, size):
        seeds = range(start, min(start + size, first + count))
        missing = ledger.missing(seeds, policy=name, place=place)
        if missing:
            run = partial(run_policy, name, where, place, seeds, size, missing)
            yield Job(f"{name} ({place})", len(missing), run)


def run_policy(
    name: str, where: EnvConfig, place: str, seeds: range, num_envs: int, missing: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a batch of a policy's episodes in one place, whole, for its random numbers are the batch's; return what
    each of the missing ones brought.
    """
    scores = evaluate_named(
        name, replace(where, dynamics=place), episodes=len(seeds), num_envs=num_envs, first_seed=seeds.start
    )
    return [
        {
            "policy": name,
            "place": place,
            "seed": seed,
            "success": float(success),
            "length": int(length),
            "rewards": [round(float(reward), 6) for reward in rewards[: int(length)]],
        }
        for seed, success, length, rewards in zip(seeds, scores.success, scores.lengths, scores.rewards, strict=True)
        if seed in missing
    ]


def earned(ledger: Ledger, place: str, horizon: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return what each policy's episodes brought within so many steps, (P, N) each: ``return`` and ``success``."""
    said = ledger.registered
    seeds = range(said["first_seed"], said["first_seed"] + said["episodes"])
    rows = [[r for r in ledger.of(policy=name, place=place) if r["seed"] in seeds] for name in said["policies"]]
    for name, line in zip(said["policies"], rows, strict=True):
        if len(line) != len(seeds):
            raise ValueError(f"{EPISODES}: {len(line)} episodes of {name!r} ({place}), {len(seeds)} were registered")
    returns = [[sum(row["rewards"][:horizon]) for row in line] for line in rows]
    success = [[row["success"] * (row["length"] <= horizon) for row in line] for line in rows]
    return {"return": np.array(returns, np.float64), "success": np.array(success, np.float64)}


def as_report(ledger: Ledger) -> dict[str, Any]:
    """Return means of every policy, and the figures of the ranking by horizon."""
    said, ranking = ledger.registered, {}
    for horizon in said["horizons"]:
        found = {place: earned(ledger, place, horizon) for place in PLACES}
        ranking[str(horizon)] = {
            "return": compare(found["world"]["return"], found["sim"]["return"]),
            "success": compare(found["world"]["success"], found["sim"]["success"], near=NEAR),
        }
    rows = []
    for i, name in enumerate(said["policies"]):
        means = {place: {k: summarise(v[i]) for k, v in found[place].items()} for place in PLACES}
        rows.append({"policy": name, **means})
    about = {"format": 1, "git": git_revision(), "hardware": hardware()}
    how = "95 % percentile interval of a bootstrap over episodes, the same of all policies in both, 2,000 draws"
    return {**about, "registered": said, "ci": how, "rows": rows, "ranking": ranking}


def as_page(report: Mapping[str, Any]) -> str:
    """Render a report as Markdown."""
    said, ranking = report["registered"], report["ranking"]
    lines = [
        f"# Ranking {len(said['policies'])} policies: {said['env']['env']}",
        "",
        f"{said['episodes']} episodes each from seed {said['first_seed']}, {report['hardware']}, git {report['git']}; "
        f"{report['ci']}. Claim, before they were run: {said['claim']}.",
        "",
        "| policy | return, world | simulator | success, world | simulator |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [cell(row[place][key]) for key in ("return", "success") for place in PLACES]
        lines.append(f"| `{row['policy']}` | " + " | ".join(cells) + " |")
    names = list(dict.fromkeys(k for by in ranking.values() for found in by.values() for k in found))
    lines += ["", "| steps | of | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for horizon, by in ranking.items():
        for metric, found in by.items():
            lines.append(f"| {horizon} | {metric} | " + " | ".join(cell(found.get(name)) for name in names) + " |")
    return "\n".join(lines) + "\n"


def cell(summary: Mapping[str, Any] | None) -> str:
    """Format a mean with its interval; nothing where there is none."""
    if summary is None:
        return ""
    low, high = summary["ci95"]
    return f"{summary['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _draw(path: Path, ledger: Ledger, report: Mapping[str, Any]) -> None:
    """Draw returns in the world against those in the simulator."""
    last = max(ledger.registered["horizons"])
    world, real = (earned(ledger, place, last)["return"] for place in PLACES)
    names = [row["policy"] for row in report["rows"]]
    by_horizon = {int(h): by["return"]["pearson"] for h, by in report["ranking"].items() if "pearson" in by["return"]}
    draw_foretold(path, dict(zip(names, zip(world, real, strict=True), strict=True)), by_horizon)
