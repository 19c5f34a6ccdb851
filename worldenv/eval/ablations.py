"""Suite ``ablations``: worlds trained differently, on the same cases and noise, and the verdict on what was claimed.

An arm is ``NAME=DIR``; worlds of one arm trained with several seeds are ``NAME@1=DIR``, ``NAME@2=DIR``. The claim is
that the first arm is better than each of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base.device import default_dtype, resolve_device
from ..engine.world import World, shared_world
from .arms import Make, WorldArm, control_arms
from .evaluate import Subject, conclude, measure
from .image import Array
from .run import ArmResult
from .statistics import holm, p_value, verdict
from .suites import RUNS, suite_cases

PRIMARY = "return_psnr_gt_far"
"""What a claim stands or falls with."""
SECONDARY = ("return_psnr_self_far", "seen_psnr", "ssim", "action_score")
"""What else a better arm has more of; their p-values are corrected for their number."""


def run_ablations(arms: Sequence[str], out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Run worlds as arms of suite ``revisit`` and judge the first arm against the others.

    Raises:
        ValueError: if an arm is not NAME=DIR or named twice, there are fewer than two, or worlds differ in frames.
    """
    folders = parse_arms(arms)
    device = resolve_device("auto")
    worlds = {arm: shared_world(path, device=device, dtype=default_dtype(device)) for arm, path in folders.items()}
    first = next(iter(worlds.values()))
    for arm, world in worlds.items():
        if world.spec != first.spec:
            raise ValueError(f"{folders[arm]}: its frames, camera or steps are not those of {next(iter(folders))}")
    out.mkdir(parents=True, exist_ok=True)
    suite = replace(RUNS["revisit"], against=tuple(worlds)[1:])
    cases, source = suite_cases(suite, first.spec, num_worlds, first_seed)
    made: dict[str, Make] = {arm: WorldArm(world, world.config.memory) for arm, world in worlds.items()}
    made["simulator"] = control_arms(first.spec)["simulator"]
    subject = Subject("ablations", " ".join(w.sha256[:12] for w in worlds.values()), first.spec, first.config.memory)
    report = measure(
        "ablations", suite, made, cases, out, subject=subject, source=source, weights=None,
        more=lambda results: {"worlds": _describe(worlds), "verdicts": judge(results, list(worlds), cases.seeds)},
    )  # fmt: skip
    conclude(report, out)


def parse_arms(arms: Sequence[str]) -> dict[str, str]:
    """Return the folder of each arm, by NAME@SEED."""
    found: dict[str, str] = {}
    for arm in arms:
        name, sign, folder = arm.partition("=")
        if not (name and sign and folder):
            raise ValueError(f"arm {arm!r}: write NAME=DIR, or NAME@SEED=DIR for one of several training seeds")
        key = name if "@" in name else f"{name}@0"
        if key in found:
            raise ValueError(f"arm {name!r} is named twice; number its training seeds: NAME@1=DIR")
        found[key] = folder
    if len({key.partition("@")[0] for key in found}) < 2:
        raise ValueError("an ablation compares arms; pass two or more: --arms full=DIR without=DIR")
    return found


def judge(results: Mapping[str, ArmResult], arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Judge the first arm against each other one, paired by training seed and case, metric by metric."""
    by_name: dict[str, dict[str, str]] = {}
    for arm in arms:
        name, _, seed = arm.partition("@")
        by_name.setdefault(name, {})[seed] = arm
    (first, mine), *others = by_name.items()
    found: dict[str, Any] = {}
    for name, theirs in others:
        shared = [seed for seed in mine if seed in theirs]
        pairs = [(results[mine[seed]].metrics, results[theirs[seed]].metrics) for seed in shared]
        judged = {
            metric: _judged([a[metric] - b[metric] for a, b in pairs], seeds)
            for metric in (PRIMARY, *SECONDARY)
            if pairs and all(metric in a and metric in b for a, b in pairs)
        }
        corrected = holm({metric: said["p"] for metric, said in judged.items() if metric != PRIMARY})
        for metric, p in corrected.items():
            judged[metric]["p"] = round(p, 5)
        found[f"{first} - {name}"] = judged
    return found


def _judged(differences: list[Array], worlds: Sequence[int]) -> dict[str, Any]:
    values, count = np.concatenate(differences), len(differences)
    there = ~np.isnan(values)
    seeds, maps = np.repeat(np.arange(count), len(worlds))[there], np.tile(np.asarray(worlds), count)[there]
    said, why = verdict(values[there], seeds, maps)
    p = round(p_value(values[there], [seeds, maps]), 5)
    return {"mean": round(float(values[there].mean()), 4), "verdict": said, "why": why, "p": p}


def _describe(worlds: Mapping[str, World]) -> dict[str, Any]:
    return {arm: {"name": world.config.name, "sha256": world.sha256} for arm, world in worlds.items()}
