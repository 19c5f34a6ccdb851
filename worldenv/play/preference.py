"""Votes of a blind test, as CSV: which of two arms people preferred, with intervals."""

from __future__ import annotations

import csv
import fcntl
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base.documents import read_text
from ..base.files import save_text

QUESTIONS = ("picture", "control", "consistency")
"""What is asked of each pair."""
FIELDS = ("rater", "trial", "one", "other", "left", "question", "preferred", "seed", "start")
"""A vote: the arms, which of them stood left, and the one that was preferred, or ``same``."""
WANTED = f"votes: a list is sent, of votes with the fields {', '.join(FIELDS)}"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Z95 = 1.959964
"""Of a two-sided 95 % interval."""


def add_votes(folder: Path, votes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add votes to ``votes.csv`` and write ``preference.csv``, what all of them say; return its rows.

    Raises:
        ValueError: naming the field of a vote that is none; nothing is written then.
    """
    if not isinstance(votes, list) or not votes:
        raise ValueError(WANTED)
    for vote in votes:
        _check(vote)
    path = folder / "votes.csv"
    with _alone(folder):
        before = _read(path) if path.exists() else []
        every = [*before, *({name: str(vote[name]) for name in FIELDS} for vote in votes)]
        save_text(path, _table(every, FIELDS))
        rows = summarise(every)
        save_text(folder / "preference.csv", _table(rows, list(rows[0])))
    return rows


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's votes: whoever else writes some, in this process or another, waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "votes.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # given back when the file is closed, or the process ends
        yield


def summarise(votes: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Count votes by pair of arms and question: how many for each, and the share for the first with its interval.

    A vote for ``same`` counts half for each. The unit of the interval is a vote, as if each were independent.
    """
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for vote in votes:
        one, other = sorted((vote["one"], vote["other"]))
        counts[one, other, vote["question"]][[one, other, "same"].index(vote["preferred"])] += 1
    rows = []
    for (one, other, question), (for_one, for_other, same) in sorted(counts.items()):
        total = for_one + for_other + same
        share = (for_one + same / 2) / total
        low, high = wilson(share, total)
        rows.append(
            {
                "question": question,
                "one": one,
                "other": other,
                "for_one": for_one,
                "same": same,
                "for_other": for_other,
                "share_one": round(share, 4),
                "ci95_low": round(low, 4),
                "ci95_high": round(high, 4),
            }
        )
    return rows


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was found in ``count`` votes (Wilson 1927)."""
    spread = 1 + Z95**2 / count
    middle = (share + Z95**2 / (2 * count)) / spread
    half = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2)) / spread
    return max(0.0, middle - half), min(1.0, middle + half)


def _read(path: Path) -> list[dict[str, str]]:
    """Return the votes of a file; a ValueError if it holds what is none."""
    votes = list(csv.DictReader(io.StringIO(read_text(path))))
    try:
        for vote in votes:
            _check(vote)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file was damaged or edited, move it away") from None
    return votes


def _check(vote: Mapping[str, Any]) -> None:
    if not isinstance(vote, Mapping) or set(vote) != set(FIELDS):
        raise ValueError(WANTED)
    for name in FIELDS:
        if not NAME.fullmatch(str(vote[name])):
            raise ValueError(f"{name}={vote[name]!r}: letters, digits, _ and - alone")
    if vote["question"] not in QUESTIONS:
        raise ValueError(f"question={vote['question']!r}; choose one of {', '.join(QUESTIONS)}")
    if vote["one"] == vote["other"] or vote["preferred"] not in (vote["one"], vote["other"], "same"):
        raise ValueError(f"preferred={vote['preferred']!r}; choose one of two arms, or 'same'")


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
