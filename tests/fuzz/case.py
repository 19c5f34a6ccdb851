"""A fuzzing case: a valid input, changed, with what must become of it; and the judge of what did."""

from __future__ import annotations

import dis
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

PACKAGES = ("worldenv", "worldenv_agents")
"""Whose errors are ours."""
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
    verdict, said = _verdict(case, error, seconds)
    return Outcome(verdict, anywhere(said, folder, folder.parent)[:SAID], seconds)


def _verdict(case: Case, error: BaseException | None, seconds: float) -> tuple[str, str]:
    said = "" if error is None else f"{type(error).__name__}: {error}"
    if isinstance(error, Hang) or seconds > MOST_SECONDS:
        return "hang", said
    if error is None:
        return ("silent", "") if case.accept is False else ("right", "")
    if not _is_ours(error):
        if isinstance(error, MemoryError) or "allocate" in said:
            return "memory", said
        return "raw", f"({_where(error)}) {said}"
    if case.accept:
        return "refused", said
    return ("unnamed" if case.names not in str(error) else "right"), said


def _is_ours(error: BaseException) -> bool:
    """Tell whether an error is one that somebody wrote: of one line, by a ``raise`` in the package.

    A command that ends with a line may have taken it from an error; then it is that one which counts.
    """
    if isinstance(error, SystemExit):
        said = isinstance(error.code, str) and "\n" not in error.code
        return said and (error.__suppress_context__ or error.__context__ is None or _is_ours(error.__context__))
    at = _last(error)
    if at is None or str(at.tb_frame.f_globals.get("__name__")).partition(".")[0] not in PACKAGES:
        return False
    raised = at.tb_frame.f_code.co_code[at.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and isinstance(error, ValueError | TypeError | OSError | ImportError) and "\n" not in str(error)


def _last(error: BaseException) -> TracebackType | None:
    """Return where an error was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at


def _where(error: BaseException) -> str:
    at = _last(error)
    return anywhere(f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}") if at else ""


def anywhere(text: str, *folders: Path) -> str:
    """Name files from the package on: reports say nothing of the machine that they were made on."""
    for folder in sorted({*map(str, folders), *sys.path, sys.base_prefix}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "") if folder else text
    return text


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
