"""The packaged world beside the one that it was distilled from, clause by clause."""

from __future__ import annotations

from typing import Any

from cells import COMPARED, RESULTS, arms_table, cell, heading, load

LEAST_PSNR = -0.7
"""dB that a distilled world may lie below its parent on ground that is known."""
CLAUSES = {
    "distilled": {
        "seen_psnr": "seen ground, PSNR", "return_psnr_gt_far": "return, far, PSNR against the simulator",
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
}  # fmt: skip
"""What is asked of a distilled world, by report and metric."""


def distilled_table() -> list[str]:
    """The packaged world beside the one that it was distilled from, and what was asked of it, clause by clause."""
    arms = "--arms distilled=maze parent=DIR parent_16_steps=DIR,sampler.num_steps=16"
    command = f"worldenv eval ablations {arms} --worlds 32 --out DIR"
    lines = arms_table("distilled", COMPARED, "Four steps before and after context forcing", command=command)
    reports = {name: load(name) if (RESULTS / f"{name}.json").exists() else {} for name in CLAUSES}
    assert all(report["worlds"] == reports["distilled"]["worlds"] for report in reports.values() if report)
    against = list(reports["distilled"]["differences"])
    title = (
        "**What distillation was to keep and to gain** (paired differences; PSNR: at most "
        f"{-LEAST_PSNR} dB below, all else: lower; held: the whole interval is, not held: none of it, else undecided; "
        f"64 chunks: `worldenv eval ablations --suite drift {arms} --out DIR`)"
    )
    lines += ["", *heading(title, "clause", [name.replace("@0", "") for name in against])]
    for name, report in reports.items():
        for metric, clause in CLAUSES[name].items():
            found = [report.get("differences", {}).get(pair, {}).get(metric) for pair in against]
            lines.append(f"| {clause} | " + " | ".join(judged(x, psnr="psnr" in metric) for x in found) + " |")
    return lines


def judged(difference: dict[str, Any] | None, *, psnr: bool) -> str:
    """Write a difference and whether it held."""
    if difference is None:
        return "not measured yet"
    return f"{cell(difference, 2 if psnr else 3)}: {held(difference, psnr=psnr)}"


def held(difference: dict[str, Any], *, psnr: bool) -> str:
    """Say whether a difference is on the right side of its bound: above the least PSNR, or below 0."""
    low, high = difference["ci95"] if psnr else (-x for x in reversed(difference["ci95"]))
    bound = LEAST_PSNR if psnr else 0
    return "held" if low > bound else "not held" if high < bound else "undecided"
