"""A folder that one run at a time writes to: a second one is refused, and what a killed one left is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .files import check_folder
from .log import console
from .said import named

NAME = "in-use.json"
"""The file that says so, and which process it is; the system lets go of it when that ends, however it ends."""
UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems say that know no locks."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, while a run writes to it; one that was made for nothing goes.

    Raises:
        ValueError: if another run does, naming its process and since when.
        OSError: if nothing can be written there.
    """
    check_folder(folder)
    made, path = not folder.exists(), folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _hold(path)
    except OSError as error:
        raise OSError(
            f"{named(folder)}: no folder to write to ({error.strerror or error}); pass another --out"
        ) from error
    try:
        before = _read(path)
        if before:
            console.print(f"{folder}: process {_who(before)} was killed here; taking over", markup=False)
        os.truncate(held, 0)
        os.write(held, json.dumps(_own()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who opens it meanwhile sees that it is gone
        os.close(held)
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _hold(path: Path) -> int:
    """Open and lock a file that is still there once it is locked."""
    while True:
        held = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(held).st_nlink:
                return held
            os.close(held)
        except BlockingIOError:
            os.close(held)
            who = _who(_read(path))
            raise ValueError(f"{path.parent} is in use by process {who}; wait for it, or use another --out") from None
        except OSError as error:
            if error.errno in UNKNOWN:
                return held
            os.close(held)
            raise


def _own() -> dict[str, Any]:
    since, words = time.strftime("%Y-%m-%d %H:%M:%S"), [Path(sys.argv[0]).name, *sys.argv[1:3]]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": " ".join(words)}


def _read(path: Path) -> dict[str, Any]:
    """Return what a file says of its process, nothing if it is not whole."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _who(said: dict[str, Any]) -> str:
    if not said:
        return "(which has only begun)"
    where = "" if said.get("host") == socket.gethostname() else f" on {said.get('host')}"
    return f"{said.get('pid')}{where} ({said.get('command')}), since {said.get('since')}"
