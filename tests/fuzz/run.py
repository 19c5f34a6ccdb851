"""Cases of a border, drawn and judged until the time is up."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.case import Case, judge
from tests.fuzz.registry import BORDERS

BATCH = 200
"""Cases that are drawn at once."""
QUIET: Any = {
    "database": None,
    "deadline": None,
    "phases": (Phase.generate,),
    "suppress_health_check": list(HealthCheck),
}


@dataclass
class Tally:
    """What became of a border's cases, each counted once."""

    judged: Counter[str] = field(default_factory=Counter)
    """Cases with an oracle, by what they must be: ``accept``, ``refuse``."""
    unjudged: int = 0
    """Cases without: they may be either, but not raw, nor long, nor large."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Verdicts other than ``right``."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Some cases of each of these, and what was said."""
    slowest: float = 0.0
    """Seconds of the slowest case."""
    seen: set[str] = field(default_factory=set, repr=False)

    def add(self, case: Case, folder: Path) -> None:
        """Judge a case that is new."""
        if case.what in self.seen:
            return
        self.seen.add(case.what)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        outcome, bad = judge(case, folder), ""
        self.slowest = max(self.slowest, outcome.seconds)
        if case.accept is None:
            self.unjudged += 1
        else:
            self.judged["accept" if case.accept else "refuse"] += 1
        if outcome.verdict != "right":
            bad = outcome.verdict
            self.wrong[bad] += 1
            self.examples.setdefault(bad, []).append(f"{case.what}: {outcome.said}")


def fuzz(border: str, folder: Path, *, seconds: float = 0.0, cases: int = 0, seed: int = 0) -> Tally:
    """Draw cases until the time is up and so many were drawn."""
    own, scratch, tally = folder / "own", folder / "scratch", Tally()
    own.mkdir(parents=True)
    strategy, began, drawn = BORDERS[border](own), time.perf_counter(), 0

    def add(case: Case) -> None:
        if not seconds or time.perf_counter() - began < seconds:
            tally.add(case, scratch)

    while drawn < cases or time.perf_counter() - began < seconds:
        count = BATCH if seconds else min(BATCH, cases - drawn)
        seeded(seed + drawn)(settings(max_examples=count, **QUIET)(given(strategy)(add)))()
        drawn += count
    return tally
