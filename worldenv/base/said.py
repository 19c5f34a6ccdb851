"""How errors say what they are about: in one line, whatever somebody called a file."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

MOST_SAID, MOST_VALUE = 200, 80
"""Characters of a path, and of another value, that an error repeats."""


def named(path: Path | str) -> str:
    """Return a path as an error names it: in one line, the beginning of a long one."""
    text = str(path)
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= MOST_SAID else f"{shown[:MOST_SAID]}..."


def said(value: object) -> str:
    """Return a value as an error repeats it: in one line, the beginning of a long one; of bytes how many there are."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST_VALUE else f"{text[:MOST_VALUE]}..."


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line; its name if it says nothing."""
    said = " ".join("".join(c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in str(error)).split())
    return said or type(error).__name__


def reason(error: OSError | ValueError) -> str:
    """Return why something could not be done to a file, without the file."""
    return (error.strerror if isinstance(error, OSError) else None) or one_line(error)


def show_any_name() -> None:
    """Let a command print names that are no text, as files may have: what cannot be encoded is shown by escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_path(path: Path | str) -> Path:
    """Return a path from outside, of something that is to be read.

    Raises:
        ValueError: if no file can have this name (it is too long, or holds a null byte), if it lies where nobody may
            look, or holds what is not printed in a line and nothing lies there.
    """
    why = ""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        why = "" if str(path).isprintable() else "nothing lies there"
    except (OSError, ValueError) as error:
        why = reason(error)
    if why:
        raise ValueError(f"{named(path)}: cannot be read ({why}); pass a file or a folder that is there")
    return Path(path)


def check_file(path: Path | str) -> Path:
    """Return the path of a file from outside that is to be read, and is neither folder, nor pipe, nor device.

    Raises:
        ValueError: if there is none.
    """
    found = check_path(path)
    if not found.is_file():
        raise ValueError(f"{named(found)}: {'is a folder, pipe or device' if found.exists() else 'no such file'}")
    return found
