"""Episodes that were run, one line of JSON each: what goes on where it stopped, and cannot be another after a look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worldenv.base.config import difference
from worldenv.base.files import save_text
from worldenv.base.log import JsonlLog

REGISTERED, EPISODES = "registered.json", "episodes.jsonl"


def register(path: Path, registered: Mapping[str, Any], *, free: Sequence[str] = ()) -> dict[str, Any]:
    """Write what is said of a comparison before it is run, and return it; numbers and lists that are ``free`` may grow.

    Raises:
        ValueError: if something else was registered there.
    """
    said: dict[str, Any] = json.loads(json.dumps(registered))
    if path.exists():
        before: dict[str, Any] = json.loads(path.read_text())
        changed = difference(*({key: one[key] for key in one if key not in free} for one in (before, said)))
        fewer = (key for key in free if key in before and not _covers(said[key], before[key]))
        changed = changed or next(fewer, None)
        if changed is not None:
            raise ValueError(
                f"{path.parent} was begun with another {changed}; go on as {path.name} says, or pass another --out"
            )
        if not free:
            return before
    save_text(path, json.dumps(said, indent=1) + "\n")
    return said


def _covers(more: Any, less: Any) -> bool:
    return set(less) <= set(more) if isinstance(less, list) else bool(less <= more)


class Ledger:
    """The episodes of a comparison, and what was said of it before the first of them was run.

    Raises:
        ValueError: if the folder holds a comparison that was registered with other settings.
    """

    def __init__(self, folder: Path, registered: Mapping[str, Any]) -> None:
        self.registered = register(folder / REGISTERED, registered)
        self.log = JsonlLog(folder / EPISODES, resume_step=1)
        self.rows = JsonlLog.read(folder / EPISODES)

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
