"""What experts of the hand's table, their noisy copies and random actions achieve."""

from __future__ import annotations

from cells import RESULTS, cell, load

from worldenv.tasks.registry import SIMULATED, id_names


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
