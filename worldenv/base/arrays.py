"""Arrays from outside (.npy, .npz): what they say of themselves is checked before anything of that size is made."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .said import check_file

Array = npt.NDArray[Any]
KINDS = "biuf"
"""Kinds of numbers that are read: flags, whole ones, floating-point ones."""
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, SyntaxError, OverflowError, RecursionError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
)
"""What readers raise of files that are damaged, encrypted or none at all."""


def read_npz(path: Path, name: str, *, most: int, kinds: str = KINDS) -> Array:
    """Read an array of an .npz file, of numbers, or of other ``kinds``.

    Raises:
        ValueError: if there is none, it holds something else, or more than ``most`` bytes.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist().count(f"{name}.npy") != 1:
                raise ValueError(f"holds {', '.join(archive.namelist())[:80] or 'nothing'}, not one {name!r}")
            with archive.open(f"{name}.npy") as file:
                return _read(file, most, kinds)
    except _BROKEN as error:
        raise ValueError(f"{path}: cannot be read as arrays ({_line(error)})") from None


def read_npy(path: Path, *, most: int) -> Array:
    """Read an .npy file.

    Raises:
        ValueError: if it is none, holds no numbers, or more than ``most`` bytes of them.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            return _read(file, most)
    except _BROKEN as error:
        raise ValueError(f"{path}: no plain array of numbers ({_line(error)})") from None


def _read(file: IO[bytes], most: int, kinds: str = KINDS) -> Array:
    shape, in_columns, dtype = _read_header(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in kinds or size > most or min(shape, default=0) < 0:
        raise ValueError(f"{dtype} {shape}; numbers of up to {most} bytes are read")
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{dtype} {shape} takes {size} bytes, {'fewer' if len(data) < size else 'more'} are there")
    found = np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C")
    return np.ascontiguousarray(found.astype(dtype.newbyteorder("=")))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    known: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in known:
        raise ValueError(f"version {version} of .npy")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = known[version](file)
    return found


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}" if str(error) else type(error).__name__
