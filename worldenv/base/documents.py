"""Texts and JSON from outside: read within a limit, whatever lies there."""

from __future__ import annotations

import json
import os
import select
import stat
from pathlib import Path
from typing import IO, Any

from .said import check_path, named, one_line

MOST_BYTES = 256 * 2**20
"""Of a text; a report has a few hundred thousand, a path of a million poses a hundred million."""
BLOCK = 2**20
"""Bytes that are read at once."""
PATIENCE = 5.0
"""Seconds that a pipe may take until somebody writes to it."""


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Read a file.

    Raises:
        ValueError: if there is none, or it is longer than ``most`` bytes.
    """
    check_path(path)
    try:
        with open(path, "rb", opener=_opener) as file:
            _wait(file)
            data = bytearray()
            while len(data) <= most and (block := file.read(BLOCK)):  # a larger one is made before it is filled
                data += block
    except (OSError, ValueError) as error:
        raise ValueError(f"{named(path)}: cannot be read ({one_line(error)[:200]})") from None
    if len(data) > most:
        raise ValueError(f"{named(path)}: more than {most} bytes, which are read")
    return bytes(data)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe would wait for one who writes, for ever


def _wait(file: IO[bytes]) -> None:
    """Wait until somebody writes to a pipe; other files are there."""
    descriptor = file.fileno()
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(1000 * PATIENCE):
            raise ValueError(f"a pipe to which nobody writes within {PATIENCE:g} s")
    os.set_blocking(descriptor, True)


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Read a text file.

    Raises:
        ValueError: if there is none, it is no UTF-8, or longer than ``most`` bytes.
    """
    try:
        return read_bytes(path, most=most).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{named(path)}: cannot be read ({error})") from None


def read_json(path: Path) -> Any:
    """Read a JSON file. There is no NaN and no infinity in JSON.

    Raises:
        ValueError: if there is none, or it is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{named(path)}: not JSON ({error})") from None


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a table.

    Raises:
        ValueError: if there is none, or it holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{named(path)}: holds {str(found)[:80]!r}, not a table")
    return found


def is_format(found: Any, wanted: int) -> bool:
    """Tell whether what a file says of its format is this whole number: no flag, no 1.0, no text."""
    return type(found) is int and found == wanted


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: if it is none, holds NaN, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:  # also whole numbers of thousands of digits
        raise ValueError(str(error).partition(";")[0]) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
