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


def register(path: Path, registered: Mapping[str, Any], *, free: Sequence[str] = ()) -> dict[str, Any]:
    """Write what is said of a comparison before it is run, and return it; numbers and lists that are ``free`` may grow.

    Raises:
        ValueError: if something else was registered there.
    """
    said: dict[str, Any] = json.loads(json.dumps(registered))
    if path.exists():
        before = read_table(path)
        changed = difference(*({key: one[key] for key in one if key not in free} for one in (before, said)))
        fewer = (key for key in free if key in before and not _covers(said.get(key), before[key]))
        changed = changed or next(fewer, None)
        if changed is not None:
            raise ValueError(
                f"{path.parent} was begun with another {changed}; go on as {path.name} says, or pass another --out"
            )
        if not free:
            return {**said, **before}
    save_text(path, json.dumps(said, indent=1) + "\n")
    return said


def _covers(more: Any, less: Any) -> bool:
    """Tell whether a number is as large, or a list holds as much."""
    if isinstance(more, list) and isinstance(less, list):
        return all(one in more for one in less)
    return type(more) is type(less) and bool(more >= less)


class Ledger:
    """The episodes of a comparison, and what was said of it before the first of them was run.

    Raises:
        ValueError: if the folder holds a comparison that was registered with other settings, or what is no episode.
    """

    def __init__(self, folder: Path, registered: Mapping[str, Any]) -> None:
        self.registered = register(folder / REGISTERED, registered)
        self.log = JsonlLog(folder / EPISODES, resume_step=1)
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
