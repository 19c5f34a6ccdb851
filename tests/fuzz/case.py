"""A fuzzing case: a valid input, changed, with what must become of it; and the judge of what did."""

from __future__ import annotations

import dis
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("/worldenv/", "/worldenv_agents/")
MOST_SECONDS = 5.0
"""That a case may compute."""
MOST_WAITING = 30.0
"""Seconds that it may take on the clock, as other processes may be busy."""
MOST_BYTES = 500 * 2**20
"""Of a case, beyond what the process had before."""
SAID = 200
"""Characters of an error that a report repeats."""


@dataclass(frozen=True)
class Case:
    """A changed input."""

    what: str
    """Which input, and what was done to it."""
    accept: bool | None
    """Whether it must be accepted, or refused; None is a case without an oracle, which may be either."""
    act: Callable[[Path], Any] = field(repr=False, compare=False)
    """Hand it to the border; the folder is empty, and its own."""
    names: str = ""
    """What the error has to name, such as the file."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    verdict: str
    """``right``; or ``raw`` (an error that is not ours, or not one line), ``silent`` (accepted, and should not have
    been), ``refused`` (the reverse), ``unnamed``, ``hang``, ``memory``."""
    said: str = ""
    """The error."""
    seconds: float = 0.0


class Hang(BaseException):
    """A case that takes too long; no handler of errors takes it for one."""


def judge(case: Case, folder: Path) -> Outcome:
    """Run a case within the limits."""
    began = time.process_time()
    error: BaseException | None = None
    try:
        with limited():
            case.act(folder)
    except (Exception, Hang, SystemExit) as raised:
        error = raised
    seconds = time.process_time() - began
    return Outcome(*_verdict(case, error, seconds), seconds)


def _verdict(case: Case, error: BaseException | None, seconds: float) -> tuple[str, str]:
    said = "" if error is None else f"{type(error).__name__}: {error}"
    if isinstance(error, Hang) or seconds > MOST_SECONDS:
        return "hang", said[:SAID]
    if error is None:
        return ("silent", "") if case.accept is False else ("right", "")
    if not _is_ours(error):
        if isinstance(error, MemoryError) or "allocate" in said:
            return "memory", said[:SAID]
        return "raw", f"{said[:SAID]} ({_where(error)})"
    if case.accept:
        return "refused", said[:SAID]
    return ("unnamed" if case.names not in str(error) else "right"), said[:SAID]


def _is_ours(error: BaseException) -> bool:
    """Tell whether an error is one that somebody wrote: of one line, by a ``raise`` in the package."""
    if isinstance(error, SystemExit):
        return isinstance(error.code, str) and "\n" not in error.code
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    raised = at is not None and at.tb_frame.f_code.co_code[at.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    fits = isinstance(error, ValueError | TypeError | OSError | ImportError) and "\n" not in str(error)
    return fits and raised and any(package in _where(error) for package in PACKAGES)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


@contextmanager
def limited() -> Iterator[None]:
    """Limit time, as far as Python gets to run, and memory, of what is done inside."""

    def stop(*_: Any) -> None:
        raise Hang

    before = resource.getrlimit(resource.RLIMIT_DATA)
    timers = {signal.SIGALRM: (signal.ITIMER_REAL, MOST_WAITING), signal.SIGPROF: (signal.ITIMER_PROF, MOST_SECONDS)}
    handlers = {number: signal.signal(number, stop) for number in timers}
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + MOST_BYTES, before[1]))
    for timer, most in timers.values():
        signal.setitimer(timer, most)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, handlers[number])
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    """Return what the process may write to, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024
