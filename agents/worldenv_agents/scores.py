"""What ``worldenv-agents eval`` shows: a row of means and intervals for each policy and place, and the same as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from worldenv.base.files import check_place, save_text
from worldenv.base.log import git_revision, hardware, progress_bar

from .environments import EnvConfig, check_env
from .evaluate import check_episodes, check_policies, evaluate_named


def run_table(policies: tuple[str, ...], config: EnvConfig, *, twin: bool, out: Path | None, **how: int) -> None:
    """Evaluate every policy on every dynamics; print a table, write JSON.

    Raises:
        ValueError: for what cannot be run, before anything is.
        OSError: if nothing can be written to ``out``, before too.
    """
    check_env(config.env)
    check_episodes(**how)
    config.check_both() if twin else config.check_used()
    places = [replace(config, dynamics=kind) for kind in ("world", "sim")] if twin else [config]
    for place in places:
        check_policies(policies, place)
    if out is not None:
        check_place(out)
    table = Table(
        "policy", "dynamics", "return", "95 % interval", "success", "95 % interval", "steps", title=config.env
    )
    rows = []
    with progress_bar() as bar:
        for place in places:
            for name in policies:
                task = bar.add_task(name, total=how["episodes"])
                scores = evaluate_named(name, place, **how, on_batch=partial(advance, bar, task))
                rows.append({"policy": name, "dynamics": place.place, **scores.summary()})
                table.add_row(name, place.place, *cells(rows[-1]))
    Console(width=110 if not sys.stdout.isatty() else None).print(table)
    if out is not None:
        where = {"git": git_revision(), "hardware": hardware()}
        save_text(out, json.dumps({"env": config.env, **how, **where, "rows": rows}, indent=1, allow_nan=False) + "\n")


def advance(bar: Any, task: Any, count: int) -> None:
    """Show how many episodes are done."""
    bar.update(task, completed=count)


def cells(row: dict[str, Any]) -> list[str]:
    """Format the numbers of one row of the table."""
    (low, high), (worst, best) = row["returns"]["ci95"], row["success"]["ci95"]
    returns = [f"{row['returns']['mean']:.3f}", f"{low:.3f} to {high:.3f}"]
    return [*returns, f"{row['success']['mean']:.0%}", f"{worst:.0%} to {best:.0%}", f"{row['lengths']['mean']:.1f}"]
