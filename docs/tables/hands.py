"""What policies of the hand's table achieve, and how near the packaged world of hands comes to it."""

from __future__ import annotations

from cells import RESULTS, arm_row, cell, check_packaged, heading, load

from worldenv.tasks.registry import SIMULATED, id_names

READ = {
    "object_error_mm_24": 0,
    "object_error_mm_48": 0,
    "object_error_mm_64": 0,
    "object_error_mm_96": 0,
    "object_visible": 2,
    "place_agreement": 2,
    "true_success": 2,
    "false_success": 2,
    "changed_psnr": 1,
    "object_psnr": 1,
    "keypoint_error_px": 1,
    "frechet_vae_features": 2,
}
"""Metrics of suite ``manipulation`` that the page shows, with so many digits."""
RECORDED = ("place", "lift", "push")


def manipulation_table() -> list[str]:
    """Return what suite ``manipulation`` says of the packaged world, for each kind of recording that it was run on.

    Raises:
        SystemExit: if a report speaks of other weights than the packaged ones.
    """
    lines: list[str] = []
    for task in (task for task in RECORDED if (RESULTS / f"manipulation-{task}.json").is_file()):
        report = load(f"manipulation-{task}")
        check_packaged(f"manipulation-{task}", "hand", report["world"]["sha256"])
        columns = {name: digits for name, digits in READ.items() if any(name in row for row in report["arms"].values())}
        title = (
            f"`worldenv eval manipulation --world hand --recording runs/hand/heldout/{task} --worlds "
            f"{len(report['seeds'])} --out DIR`, {report['hardware']}; means with 95 % intervals:"
        )
        lines += [*([""] if lines else []), *heading(title, "arm", columns)]
        lines += [arm_row(f"`{arm}`", metrics, columns) for arm, metrics in report["arms"].items()]
    return lines or ["Not run yet."]


def experts_table() -> list[str]:
    """Return a row for each task and policy."""
    lines: list[str] = []
    how = ""
    for task in SIMULATED:
        if not (RESULTS / f"scores-{task}.json").is_file():
            continue
        report, (name, version) = load(f"scores-{task}"), id_names()[task]
        counts = " ".join(f"--{key.replace('_', '-')} {report[key]}" for key in ("episodes", "first_seed", "num_envs"))
        how = f"{counts}`, {report['hardware']}"
        for row in report["rows"]:
            figures = [cell(row[key], 2) for key in ("returns", "success", "lengths")]
            lines.append(f"| `worldenv/{name}Sim-{version}` | `{row['policy']}` | " + " | ".join(figures) + " |")
    return [
        f"`worldenv-agents eval POLICY --env ID --obs-mode dict --obs-keys goal --pictures False {how};",
        "means with 95 % intervals:",
        "",
        "| id | policy | return | success | steps |",
        "|---|---|---|---|---|",
        *lines,
    ]
