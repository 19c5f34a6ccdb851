"""Commands in processes of their own, which can be killed: forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from worldenv.base.objects import import_object

PATIENCE = 600.0
"""Seconds that a command may take, on a machine that has other things to do."""
GONE = 30.0
"""Seconds after which nothing of a killed process may be left; workers take ten to close what they hold."""
WORLDENV, AGENTS = "worldenv.cli:main", "worldenv_agents.cli:main"

_started: list[Run] = []
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "worldenv.cli",
        "worldenv_agents.cli",
        "worldenv_agents.planners.compare",
        "worldenv.eval.suites.evaluate",
        "worldenv.training.stages.registry",
        "worldenv.play.walk",
        "torch._dynamo",
        "matplotlib.pyplot",
    ]
)


@dataclass
class Run:
    """A command that was started."""

    process: ForkServerProcess
    log: Path
    temporary: Path

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Return its exit status, None if it still runs then; minus the number of a signal that ended it."""
        self.process.join(seconds)
        return self.process.exitcode

    def children(self) -> list[int]:
        """List its descendants."""
        return _descendants(self.pid)

    def workers(self) -> list[int]:
        """List those that work for it: not the shells that start engines and wait to clean up after them."""
        return [pid for pid in self.children() if _name(pid) not in ("", "sh", "start", "setpriv", "sleep")]

    def said(self) -> str:
        """Return what it wrote to the terminal."""
        return self.log.read_text(errors="replace")

    def error(self) -> str:
        """Return its last line."""
        lines = [line for line in self.said().splitlines() if line.strip()]
        return lines[-1] if lines else ""


def start(entry: str, words: Sequence[str], *, log: Path, temporary: Path, room: int | None = None) -> Run:
    """Start a command; ``room`` lets its files grow no further than so many bytes, as on a full disk."""
    temporary.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    process = _SERVER.Process(target=_run, args=(entry, list(words), log, temporary, room))
    process.start()
    _started.append(Run(process, log, temporary))
    return _started[-1]


def end_all() -> None:
    """End what was started and still runs, with all that it has started: a driver that ends waits for nobody."""
    for run in _started:
        if run.process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def finish(entry: str, words: Sequence[str], *, log: Path, temporary: Path) -> float:
    """Run a command to its end; return the seconds that it took."""
    began, run = time.monotonic(), start(entry, words, log=log, temporary=temporary)
    if run.wait() != 0:
        raise AssertionError(f"{' '.join(words)} ended with {run.process.exitcode}:\n{run.said()[-3000:]}")
    return time.monotonic() - began


def _run(entry: str, words: list[str], log: Path, temporary: Path, room: int | None) -> None:
    import torch

    os.setsid()
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(written, 1)
    os.dup2(written, 2)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    sys.argv = ["worldenv", *words]
    import_object(entry, what="command")()


def wait_for(there: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; return whether it is."""
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.05)
    return there()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs, and not only waits to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has just ended
        return ""


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, parent = int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
        parents.setdefault(parent, []).append(child)
    found, waiting = list[int](), [pid]
    while waiting:
        waiting += parents.get(waiting.pop(), [])
        found = [*found, *(child for child in waiting if child not in found)]
    return found


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
