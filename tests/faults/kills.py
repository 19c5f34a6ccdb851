"""Kills at random moments: of a command, of a worker of it, by SIGKILL and by SIGTERM; then it goes on to its end."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldenv.base.lock import NAME
from worldenv.base.log import console

from .jobs import Job
from .processes import GONE, finish, is_alive, kill, start, wait_for

KINDS = ("killed", "killed", "worker killed", "SIGTERM")
"""In turn; a command without workers is killed itself."""


@dataclass
class Counts:
    """What was done, and what went wrong."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    """Runs that came to their end, each in pieces."""
    wrong: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return it as a report has it."""
        return {"kills": dict(sorted(self.kills.items())), "runs": self.runs, "wrong": self.wrong}


def whole(job: Job, material: Path, folder: Path) -> tuple[object, float]:
    """Run a job without interruption; return what came out, and the seconds it took."""
    how = {"log": folder / "whole.log", "temporary": folder / "temporary"}
    seconds = finish(job.entry, job.words(material, folder / "whole"), **how)
    return job.result(folder / "whole"), seconds


def run_kills(job: Job, material: Path, folder: Path, counts: Counts, *, kills: int, seed: int) -> None:
    """Interrupt a job so many times, wherever it is, and let it go on; whenever it comes to its end begin another."""
    draw = random.Random(f"{job.name} {seed}")
    wanted, seconds = whole(job, material, folder)
    out, temporary, before = folder / "parts", folder / "temporary", 0
    how = {"log": folder / "parts.log", "temporary": temporary}
    while sum(counts.kills.values()) < kills:
        kind, after = KINDS[sum(counts.kills.values()) % len(KINDS)], draw.uniform(0, seconds)
        run = start(job.entry, job.words(material, out), **how)
        status = run.wait(after)
        if status is None:
            started, workers = run.children(), run.workers()
            victims = workers if kind == "worker killed" and workers else [run.pid]
            number = signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL
            kill(draw.choice(victims), number)
            status = run.wait()
            counts.kills["killed" if victims == [run.pid] and kind != "SIGTERM" else kind] += 1
            if not (sum(counts.kills.values()) % 10):
                console.print(f"{job.name}: {sum(counts.kills.values())} of {kills} kills")
            _check_end(counts, kind, run.said(), status)
            left = [pid for pid in started if is_alive(pid)]
            if left and not wait_for(lambda left=left: not any(map(is_alive, left)), GONE):  # type: ignore[misc]
                counts.wrong.append(f"{kind} after {after:.1f} s: processes {left} still run")
        if not wait_for(lambda: not [*temporary.iterdir()], GONE):
            counts.wrong.append(f"{kind}: {[path.name for path in temporary.iterdir()]} left in the temporary folder")
            shutil.rmtree(temporary)
        if status == 0:  # it was faster, or did without the worker that was killed
            _check_result(counts, job, out, wanted)
            before = 0
            continue
        done = job.done(out) if out.exists() else 0
        if done < before:
            counts.wrong.append(f"{kind} after {after:.1f} s: {done} finished, {before} were before")
        before = done
    finish(job.entry, job.words(material, out), **how)
    _check_result(counts, job, out, wanted)


def _check_end(counts: Counts, kind: str, said: str, status: int | None) -> None:
    expected = {"SIGTERM": (0, 128 + signal.SIGTERM, -signal.SIGTERM), "worker killed": (0, 1, -signal.SIGKILL)}
    if status not in expected.get(kind, (0, -signal.SIGKILL)):
        counts.wrong.append(f"{kind}: exit status {status}, {said[-300:]!r}")
    elif kind != "killed" and "Traceback" in said:
        counts.wrong.append(f"{kind}: a traceback, {said[-300:]!r}")


def _check_result(counts: Counts, job: Job, out: Path, wanted: object) -> None:
    """What came out of a run in pieces is what comes out of a whole one, and nothing lies beside it."""
    counts.runs += 1
    if job.result(out) != wanted:
        counts.wrong.append("another result than without interruption")
    left = [path.name for path in out.rglob("*") if path.name.startswith("partial-") or path.name == NAME]
    if left:
        counts.wrong.append(f"{left} left beside the result")
    shutil.rmtree(out)


def two_at_once(job: Job, material: Path, folder: Path, wanted: object) -> list[str]:
    """Start a job twice in one folder: the second is told by whom it is in use, and the first comes to its end."""
    out, wrong = folder / "two", list[str]()
    first = start(job.entry, job.words(material, out), log=folder / "first.log", temporary=folder / "temporary")
    wait_for(lambda: (out / NAME).is_file() and bool((out / NAME).read_text()), 120)
    second = start(job.entry, job.words(material, out), log=folder / "second.log", temporary=folder / "temporary")
    began = time.monotonic()
    status = second.wait()
    if first.process.is_alive() and (status != 1 or f"in use by process {first.pid}" not in second.error()):
        wrong.append(f"the second ended with {status} after {time.monotonic() - began:.0f} s: {second.error()!r}")
    if first.wait() != 0 or job.result(out) != wanted:
        wrong.append(f"the first ended with {first.process.exitcode}, {first.error()!r}")
    shutil.rmtree(out)
    return wrong
