"""An engine's process, and calls to it that outlive it.

ViZDoom shares locks with its engine: one that is killed while it holds one is waited for forever, and one that ends
before its first message ends us by SIGSEGV. So the engine is started by a shell that hides such an early end, and calls
are made in a thread of their own, which is given up when the engine is gone and the call does not return.
"""

from __future__ import annotations

import os
import queue
import shlex
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .scratch import INSTANCE

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds after an engine's end in which calls return; it is looked for as often."""
_STARTED, _ENDED, _SAID = "started", "ended", "said"
"""Files of an engine's folder: it has answered; it is no more; what it complained of."""


class Engine:
    """What starts an engine in a folder, where it drops files, and makes the calls to it, one after the other."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.lost = False
        """Whether a call never returned; what it was called on must neither be closed nor deleted."""
        self.starter = _write_starter(binary, folder)
        self._folder = folder
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_answer, args=(self._asked,), daemon=True, name="engine calls").start()
        weakref.finalize(self, self._asked.put, None)

    def started(self) -> None:
        """Note that it answers: from now on ViZDoom is told of its end."""
        (self._folder / _STARTED).touch()

    def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns, and raise what it raises.

        Raises:
            ChildProcessError: if the engine has died; what is left of it in this process stays as it is.
        """
        told: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
        if not self.lost:
            self._asked.put((call, told))
        gone = False
        while not self.lost:
            try:
                result, error = told.get(timeout=PATIENCE)
            except queue.Empty:
                self.lost, gone = gone, not self._folder.exists() or (self._folder / _ENDED).exists()
                continue
            if error is None:
                return result  # type: ignore[return-value]
            if type(error).__name__.startswith("ViZDoom"):
                raise died(str(error).strip(" .")) from None
            raise error
        raise died(_last_words(self._folder / _SAID))


def _last_words(file: Path) -> str:
    lines = file.read_text(errors="replace").split("\n") if file.exists() else []
    return next((line.strip(" .") for line in reversed(lines) if line.strip(" .")), "it does not answer")


def died(why: str) -> ChildProcessError:
    """Say of an engine what is said of a worker that has died."""
    return ChildProcessError(f"a Doom engine died ({why}); what is finished stays, and the same command goes on")


def _answer(asked: queue.SimpleQueue[Any]) -> None:
    """Make calls until there is None."""
    while (one := asked.get()) is not None:
        call, told = one
        try:
            told.put((call(), None))
        except BaseException as error:  # whoever asked raises it
            told.put((None, error))
        del one, call, told  # they would be kept until the next


def _write_starter(binary: Path, folder: Path) -> Path:
    """Write what starts an engine; it ends with us, also if we are killed.

    Changing our own working directory meanwhile would change that of all threads. Ctrl-C is for us, who close it.

    Raises:
        OSError: if nothing can be executed there.
    """
    path, bound = folder / "start", "setpriv --pdeathsig KILL -- " if shutil.which("setpriv") else ""
    lines = [
        "#!/bin/sh",
        "trap '' INT; exec 2>/dev/null",
        f'[ "$1" = bound ] || exec {bound}"$0" bound "$@"',
        "shift",
        f"cd {shlex.quote(str(folder))} && rm -f {_STARTED} {_ENDED}",
        f'for word; do case "$last" in +viz_instance_id) echo "$word" >{INSTANCE};; esac; last=$word; done',
        f'{bound}{shlex.quote(str(binary))} "$@" >{_SAID} 2>&1',
        f": >{_ENDED}",
        f'[ -e {_STARTED} ] || while kill -0 "$PPID"; do sleep 1; done',
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o700)
    if not os.access(path, os.X_OK):
        raise OSError(f"{folder} is on a disk that nothing can be executed from; point TMPDIR to another one")
    return path
