"""Folders for engines: they go with the process that made them, also if it is killed.

A shell waits for its end, whatever ends it, and removes them, with what engines share with us in memory. Where the
shell was killed too, the next process that makes a folder does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

PREFIX, _NEW = "worldenv-sim-", "worldenv-new-"
"""What their names begin with, and before they are held."""
_LOCK = "lock"
"""A file that the process holds as long as it lives."""
INSTANCE = "instance"
"""File of an engine's folder with its number, with which the names of its shared memory end."""
SHARED = Path("/dev/shm")
"""Where that is."""
_REAPER = """
while read -r path; do set -- "$@" "$path"; done
for path; do
  for file in "$path"/*/"$INSTANCE"; do
    read -r number <"$file" && [ -n "$number" ] && rm -f "$SHARED"/ViZDoom*"$number"
  done
done
rm -rf "$@"
sleep 1
rm -rf "$@"
"""
"""Reads folders until we end; engines that end with us may still have dropped something in theirs meanwhile."""


class Scratch:
    """A temporary folder of this process; a fork inherits it without owning it."""

    def __init__(self) -> None:
        _sweep()
        token = secrets.token_hex(4)
        new, self._path = (Path(tempfile.gettempdir(), f"{prefix}{token}") for prefix in (_NEW, PREFIX))
        _tell_reaper(new, self._path)  # before they are there: we may be killed at any time
        new.mkdir(0o700)
        held = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
        new.rename(self._path)  # held before it is seen
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
        _clear(path)
        os.close(held)


def _clear(path: Path) -> None:
    """Remove a folder, and the shared memory of engines that were killed in it."""
    for file in path.glob(f"*/{INSTANCE}"):
        number = file.read_text().strip()
        for shared in SHARED.glob(f"ViZDoom*{number}") if number else ():
            shared.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


_reaper: subprocess.Popen[bytes] | None = None
"""This process's own."""


def _tell_reaper(*paths: Path) -> None:
    """Have folders removed when this process ends."""
    global _reaper
    if _reaper is None:
        _reaper = subprocess.Popen(
            ["/bin/sh", "-c", _REAPER],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # what it did not read is not written again at the end
            env={INSTANCE.upper(): INSTANCE, "SHARED": str(SHARED), "PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,  # Ctrl-C and the end of a terminal are not meant for it
        )
    assert _reaper.stdin is not None
    with suppress(BrokenPipeError):  # somebody has killed it
        _reaper.stdin.write("".join(f"{path}\n" for path in paths).encode())


def _forget_reaper() -> None:
    """In a fork: it is the parent's, which the fork may outlive."""
    global _reaper
    if _reaper is not None and _reaper.stdin is not None:
        _reaper.stdin.close()
        _reaper.returncode = 0  # nobody waits for it here
    _reaper = None


os.register_at_fork(after_in_child=_forget_reaper)


def _sweep() -> None:
    """Remove the folders of processes that are no more."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(path / _LOCK, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(path)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
