"""Episodes that were run, one line of JSON each: what goes on where it stopped, and cannot be another after a look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worldenv.base.config import difference
from worldenv.base.documents import read_table
from worldenv.base.files import save_text
from worldenv.base.log import JsonlLog

REGISTERED, EPISODES = "registered.json", "episodes.jsonl"
WHICH = ("policy", "place", "imagine", "rollouts", "seed")
"""What tells an episode from others."""
MOST = 1e15
"""The largest figure of an episode; a number that is none is not below it."""


class Ledger:
    """The episodes of a comparison, and what was said of it before the first of them was run.

    Raises:
        ValueError: if the folder holds a comparison that was registered with other settings, or what is no episode.
    """

    def __init__(self, folder: Path, registered: Mapping[str, Any]) -> None:
        path, said = folder / REGISTERED, json.loads(json.dumps(registered))
        if not path.exists():
            save_text(path, json.dumps(said, indent=1) + "\n")
        before = read_table(path)
        changed = difference(before, said)
        if changed is not None:
            raise ValueError(
                f"{path}: was registered with another {changed!r}; go on as it says, or pass another --out"
            )
        self.registered, self.log = {**said, **before}, JsonlLog(folder / EPISODES, resume_step=1)
        self.rows = JsonlLog.read(folder / EPISODES)
        _check_rows(self.rows, folder / EPISODES)

    def of(self, **which: Any) -> list[dict[str, Any]]:
        """Return the episodes that agree with ``which``, by seed."""
        found = [row for row in self.rows if all(row.get(key) == value for key, value in which.items())]
        return sorted(found, key=lambda row: int(row["seed"]))

    def missing(self, seeds: Iterable[int], **which: Any) -> list[int]:
        """Return the seeds of which no such episode was run."""
        done = {row["seed"] for row in self.of(**which)}
        return [seed for seed in seeds if seed not in done]

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep episodes, each with its ``seed``."""
        for row in rows:
            self.log.write(row)
            self.rows.append(dict(row))


def _check_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse lines that are no episode, which has a seed, success, length, and ``rewards`` or what was ``earned``; by a
    ValueError that names the line.
    """
    seen = set()
    for number, row in enumerate(rows, 1):
        rewards = row.get("rewards", [row.get("earned")])
        told = [row.get("success"), row.get("length"), *(rewards if isinstance(rewards, list) else [None])]
        told += [value for name, value in row.items() if name not in (*WHICH, "rewards")]
        fits = all(isinstance(value, int | float) and abs(value) <= MOST for value in told)
        if not fits or not rewards or type(row.get("seed")) is not int:
            raise ValueError(f"{path}: line {number} is no episode; the file was damaged or edited")
        which = str([row.get(name) for name in WHICH])
        if which in seen:
            raise ValueError(f"{path}: line {number} is an episode that stands there already; delete one of them")
        seen.add(which)
