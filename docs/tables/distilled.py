"""The packaged world beside the one that it was distilled from, clause by clause."""

from __future__ import annotations

from typing import Any

from cells import COMPARED, arm_row, arms_table, cell, heading, load

from worldenv.eval.suites.composite import MAY_LOSE

CLAUSES = {
    "distilled": {
        "seen_psnr": "seen ground, PSNR",
        "return_psnr_gt_far": "return, far, PSNR against the simulator",
        "return_psnr_self_far": "return, far, PSNR against its own way out",
        "frechet_pose_features_unseen": "unseen ground, Frechet distance",
        "contrast_error_unseen": "unseen ground, distance of the contrast from 1",
        "frechet_pose_features_late": "last eighth of 16 chunks, Frechet distance",
        "contrast_error_late": "last eighth of 16 chunks, distance of the contrast from 1",
    },
    "distilled-drift": {
        "frechet_pose_features_late": "last eighth of 64 chunks, Frechet distance",
        "contrast_error_late": "last eighth of 64 chunks, distance of the contrast from 1",
        "contrast_drift_size": "early to late, change of contrast",
        "sharpness_drift_size": "early to late, change of sharpness",
        "frechet_pose_features_drift": "early to late, growth of the Frechet distance",
    },
}
"""What is asked of a distilled world, by report and metric."""
TAUGHT = {
    "return_psnr_gt_gap4": 1,
    "return_psnr_gt_far": 1,
    "contrast_ratio_return": 2,
    "motion_ratio_return": 2,
    "action_score_return": 2,
    "frechet_pose_features_late": 3,
}
"""What a teacher must know better than the parent of its student, on ground that was given; with so many digits."""


def distilled_table() -> list[str]:
    """The packaged world beside the one that it was distilled from, and what was asked of it, clause by clause."""
    arms = "--arms distilled=maze parent=DIR parent_16_steps=DIR,sampler.num_steps=16"
    command = f"worldenv eval ablations {arms} --out DIR"
    lines = arms_table("distilled", COMPARED, "Four steps before and after context forcing", command=command)
    reports = {name: load(name) for name in CLAUSES}
    assert reports["distilled-drift"]["worlds"] == reports["distilled"]["worlds"]
    against = list(reports["distilled"]["differences"])
    title = (
        "**What distillation was to keep and to gain** (paired differences; PSNR: at most "
        f"{MAY_LOSE} dB below, all else: lower; held: the whole interval is, not held: none of it, else undecided; "
        f"64 chunks: `worldenv eval ablations --suite drift {arms} --out DIR`)"
    )
    lines += ["", *heading(title, "clause", [name.replace("@0", "") for name in against])]
    for name, report in reports.items():
        for metric, clause in CLAUSES[name].items():
            found = [report["differences"][pair][metric] for pair in against]
            lines.append(f"| {clause} | " + " | ".join(judged(x, psnr="psnr" in metric) for x in found) + " |")
    return lines


def teacher_table() -> list[str]:
    """The teacher beside the parent of its student on the same past: what a distillation is worth running for."""
    arms = "teacher=DIR parent_16_steps=DIR,sampler.num_steps=16 parent=DIR"
    command = f"worldenv eval ablations --arms {arms} --given 8 --worlds 32 --out DIR"
    title = "The teacher and the parent of its student, given the same true way out"
    lines = arms_table("teacher", TAUGHT, title, command=command)
    differences = load("teacher")["differences"].items()
    return lines + [arm_row(pair.replace("@0", ""), metrics, TAUGHT) for pair, metrics in differences]


def judged(difference: dict[str, Any], *, psnr: bool) -> str:
    """Write a difference and whether it held."""
    return f"{cell(difference, 2 if psnr else 3)}: {held(difference, psnr=psnr)}"


def held(difference: dict[str, Any], *, psnr: bool) -> str:
    """Say whether a difference is on the right side of its bound: above the least PSNR, or below 0."""
    low, high = difference["ci95"] if psnr else (-x for x in reversed(difference["ci95"]))
    bound = -MAY_LOSE if psnr else 0
    return "held" if low > bound else "not held" if high < bound else "undecided"
