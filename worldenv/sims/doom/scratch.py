"""Folders for engines: they go with the process that made them; what a killed one left, the next one removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

PREFIX = "worldenv-sim-"
"""What their names begin with."""
_LOCK = "lock"
"""A file that the process holds as long as it lives."""


class Scratch:
    """A temporary folder of this process; a fork inherits it without owning it."""

    def __init__(self) -> None:
        _sweep()
        new = Path(tempfile.mkdtemp(prefix="worldenv-new-"))
        held = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
        self._path = new.rename(new.with_name(new.name.replace("worldenv-new-", PREFIX, 1)))  # held before it is seen
        self._owner = os.getpid()
        self.close = weakref.finalize(self, _remove, self._path, held, self._owner)

    @property
    def path(self) -> Path:
        """Where it is.

        Raises:
            RuntimeError: in a fork.
        """
        if os.getpid() != self._owner:
            raise inherited()
        return self._path


def inherited() -> RuntimeError:
    """Say that something of a simulator belongs to another process."""
    return RuntimeError("this simulator runs in the process that forked this one; make another one here")


def _remove(path: Path, held: int, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _sweep() -> None:
    """Remove the folders of processes that are no more."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(path / _LOCK, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
