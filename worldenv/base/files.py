"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import glob
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .said import named, one_line, reason

BLOCK = 2**20
"""Bytes of a file that are hashed at a time."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write what then takes the place of ``path``: whole or not at all, also if killed meanwhile.

    Its name has the same suffix, and is this thread's own, so that two that write one file do not meet. It takes that
    place once it is on the disk; devices and pipes are written to directly.

    Raises:
        OSError: if it cannot be written; what was there before stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # raises of a name that is none
        special = path.exists() and not path.is_file() and not path.is_dir()
        partial = path if special else _partial(path)
    except (OSError, ValueError) as error:  # a name that is none, or leads through what is no folder
        raise OSError(f"{named(path)}: cannot be written ({one_line(error)[:200]})") from error
    try:
        yield partial
        if not special:
            _flush(partial)
            os.replace(partial, path)
    except BaseException as error:
        if not special:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"{named(path)}: could not be written ({one_line(error)}); is the disk full?") from error
        raise
    with suppress(OSError):  # not every file system does this for folders
        _flush(path.parent)


def check_place(path: Path) -> None:
    """Refuse where no file can be written, for those who compute at length first; nothing is made.

    Raises:
        OSError: naming the path, and why.
    """
    if why := _why_not(path, folder=False):
        raise OSError(f"{named(path)}: cannot be written ({why}); pass the name of a file")


def check_folder(path: Path) -> None:
    """Refuse where no folder is and none can be made to write to; nothing is made.

    Raises:
        OSError: naming the path, and why.
    """
    if why := _why_not(path, folder=True):
        raise OSError(f"{named(path)}: no folder to write to ({why}); pass another --out")


def _why_not(path: Path, *, folder: bool) -> str:
    """Return why a file, or files of a folder, cannot be written there; nothing if they can."""
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # raises of a name that is none
        if path.is_dir() and not folder:
            return "is a folder"
        inside = (path, *path.absolute().parents) if folder else path.absolute().parents
        above = next(one for one in inside if one.exists() or one.is_symlink())
        if not above.is_dir():
            return f"{named(above)} is no folder"
        there = path if path.exists() and not folder else above
        return "" if os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)) else "nobody may write there"
    except (OSError, ValueError) as error:
        return reason(error)


def _partial(path: Path) -> Path:
    """Name what this thread writes of a file; what threads that are no more left of it is removed."""
    own = f"partial-{os.uname().nodename}-"
    for left in path.parent.glob(f"{glob.escape(own)}*-{glob.escape(path.name)}"):
        thread = left.name.removeprefix(own).removesuffix(f"-{path.name}")
        if thread.isdigit() and not Path("/proc", thread).exists() and Path("/proc/self").exists():
            left.unlink(missing_ok=True)
    return path.with_name(f"{own}{threading.get_native_id()}-{path.name}")


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_text(path: Path, text: str) -> None:
    """Write text to ``path``; the file appears whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")  # names may be no text


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, compressed: bool = False) -> None:
    """Write named arrays to ``path`` (.npz); the file appears whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:  # a name would have .npz put behind it
        (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]


def file_sha256(paths: Iterable[Path]) -> str:
    """Hash files' names and contents, in order of name."""
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    for path in sorted(paths, key=lambda p: p.name):
        digest.update(path.name.encode())
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                digest.update(block[:count])
    return digest.hexdigest()
