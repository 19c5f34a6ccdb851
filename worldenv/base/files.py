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
        raise OSError(f"{str(path)[:200]}: cannot be written ({str(error)[:200]})") from error
    try:
        yield partial
        if not special:
            _flush(partial)
            os.replace(partial, path)
    except BaseException as error:
        if not special:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"{path}: could not be written ({error}); is the disk full?") from error
        raise
    with suppress(OSError):  # not every file system does this for folders
        _flush(path.parent)


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
        partial.write_text(text, encoding="utf-8", newline="")


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, compressed: bool = False) -> None:
    """Write named arrays to ``path`` (.npz); the file appears whole or not at all."""
    with replacing(path) as partial:
        (np.savez_compressed if compressed else np.savez)(partial, **arrays)  # type: ignore[arg-type]


def file_sha256(paths: Iterable[Path]) -> str:
    """Hash files' names and contents, in order of name."""
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    for path in sorted(paths, key=lambda p: p.name):
        digest.update(path.name.encode())
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                digest.update(block[:count])
    return digest.hexdigest()
