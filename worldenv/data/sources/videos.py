"""A folder of videos, each with a file of what was done beside it: ``drive.mp4`` with ``drive.csv``, .json or .npy.

A row is what was done at a frame; the last frame may lack one. Columns of whole numbers are choices, others
quantities; ``reward``, ``terminated`` and ``truncated`` are what they say. All of one kind are one action, both kinds a
Dict by name.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...base.arrays import read_npy
from ...base.documents import read_json, read_text
from ...bodies.vector import ACTION
from ...dynamics.environment import ActionPart
from ..columns import check_finite, describe_numbers, embedded
from ..schema import Array
from ..spans import Span
from ..video import Frame, Video, open_video

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
TOLD = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_}
"""Columns of what happened, which are no actions."""
MOST_BYTES = 2**30
"""Of a file of actions."""
MOST_VALUE = 1e15
"""The largest number of a table."""
Table = dict[str, Array]
"""Columns by name, each (rows,) or, if nameless, (rows, A)."""


class Videos:
    """A reader of such a folder.

    Raises:
        ValueError: naming the file, and the row, that cannot be learned from.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        if camera:
            raise ValueError(f"--camera {camera}: a folder of videos has one camera; leave it out")
        self.name = f"videos:{path.resolve().name}"
        self.notes: Sequence[str] = ()
        self.videos = find_videos(path)
        self.width, self.height, self.fps = common_size(self.videos)
        tables = [read_table(actions_beside(video.path)) for video in self.videos]
        self.parts, actions = describe_tables(tables, [video.path for video in self.videos])
        self.spans: Sequence[Span] = [
            _span(number, video, table, embedded(self.parts, one))
            for number, (video, table, one) in enumerate(zip(self.videos, tables, actions, strict=True))
        ]

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Decode some frames of a video."""
        return self.videos[span.episode].frames(span.first + first, span.first + stop)


def find_videos(path: Path) -> list[Video]:
    """Open the videos of a folder, in order of name.

    Raises:
        ValueError: if there is none.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{path}: no videos ({', '.join(SUFFIXES)}) in it, so there are no pictures to learn from")
    return [open_video(file) for file in files]


def common_size(videos: Sequence[Video]) -> tuple[int, int, float]:
    """Return width, height and rate of all videos.

    Raises:
        ValueError: if they have several.
    """
    first = videos[0]
    for video in videos:
        if (video.width, video.height) != (first.width, first.height):
            raise ValueError(
                f"{video.path}: frames of {video.width}x{video.height}, {first.path} has {first.width}x{first.height}; "
                "make them one size"
            )
        if abs(video.fps - first.fps) > 0.02 * first.fps:
            raise ValueError(
                f"{video.path}: {video.fps:g} frames a second, {first.path} has {first.fps:g}; use one rate"
            )
    return first.width, first.height, first.fps


def actions_beside(video: Path) -> Path:
    """Return the file of actions of a video.

    Raises:
        ValueError: if there is none, or more than one.
    """
    found = [video.with_suffix(suffix) for suffix in (".csv", ".json", ".npy") if video.with_suffix(suffix).is_file()]
    if len(found) != 1:
        have = " and ".join(file.name for file in found) or "nothing"
        raise ValueError(
            f"{video}: {have} beside it; one of {video.stem}.csv, .json or .npy says what was done (a folder of videos "
            "without any is unlabelled:DIR)"
        )
    return found[0]


def read_table(file: Path) -> Table:
    """Read a file of actions.

    Raises:
        ValueError: naming the row that is no row of numbers.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file}: {file.stat().st_size} bytes; up to {MOST_BYTES} are read")
    table = {".csv": _read_csv, ".json": _read_json, ".npy": _read_npy}[file.suffix](file)
    for name, values in table.items():
        _check_column(values, file, name)
    if not any(name not in TOLD for name in table):
        raise ValueError(f"{file}: no column of actions")
    return {name: values.astype(np.float64 if values.dtype.kind == "f" else np.int64) for name, values in table.items()}


def _check_column(values: Array, file: Path, name: str) -> None:
    """Refuse a column without numbers, or with one that is none, too large, or of more than one where one is told."""
    called = name or "the action"
    if not len(values):
        raise ValueError(f"{file}: no rows; a row is what was done at a frame")
    if not values.size or (name in TOLD and values.ndim > 1):
        read = "one is" if name in TOLD else "1 or more are"
        raise ValueError(f"{file}: {called} has {values[0].size} numbers a row; {read} read")
    check_finite(values, what=str(file), name=called)
    large = np.abs(values.astype(np.float64)) > MOST_VALUE
    if large.any():
        row = int(np.argwhere(large)[0, 0])
        raise ValueError(f"{file}: row {row}: {called} is {values[row]}; numbers up to {MOST_VALUE:g} are read")


def _read_csv(file: Path) -> Table:
    text = read_text(file, most=MOST_BYTES)
    try:
        names, *rows = list(csv.reader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: no table with a line of names ({error})") from None
    if len(set(names)) != len(names) or any(_is_number(name) for name in names):
        raise ValueError(f"{file}: its first line, {', '.join(names)}, must name the columns, each differently")
    for number, row in enumerate(rows):
        if len(row) != len(names) or not all(_is_number(cell) for cell in row):
            raise ValueError(f"{file}: row {number}: {','.join(row)!r} is not {len(names)} numbers")
    whole = {name: all(_is_whole(row[i]) for row in rows) for i, name in enumerate(names)}
    return {
        name.strip(): np.array([float(row[i]) for row in rows]).astype(np.int64 if whole[name] else np.float64)
        for i, name in enumerate(names)
    }


def _is_number(text: str) -> bool:
    try:
        return not abs(float(text)) > MOST_VALUE or math.isinf(float(text))  # which is refused as not finite
    except ValueError:
        return False


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").isdigit()


def _read_json(file: Path) -> Table:
    """Read a list of rows, each a number, a list of numbers, or an object of numbers by name."""
    rows = read_json(file)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{file}: no list of rows in it")
    named = isinstance(rows[0], dict)
    names = list(rows[0]) if named else [""]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in enumerate(rows):
        if isinstance(row, dict) != named or (named and set(row) != set(names)):
            raise ValueError(
                f"{file}: row {number} is {str(row)[:80]}; rows before it have {', '.join(names) or 'no names'}"
            )
        for name in names:
            columns[name].append(row[name] if named else row)
    return {name: _column(values, f"{file}: {name or 'action'}") for name, values in columns.items()}


def _column(values: list[Any], what: str) -> Array:
    """Return numbers, or lists of as many numbers each, as an array."""
    width = len(values[0]) if isinstance(values[0], list) else None
    for number, value in enumerate(values):
        cells = value if isinstance(value, list) else [value]
        fits = (len(value) if isinstance(value, list) else None) == width
        if not fits or not all(isinstance(cell, int | float) and abs(cell) <= MOST_VALUE for cell in cells):
            raise ValueError(f"{what}: row {number} is {str(value)[:80]}; every row has as many numbers")
    return np.array(values)


def _read_npy(file: Path) -> Table:
    found = read_npy(file, most=MOST_BYTES)
    if found.ndim not in (1, 2):
        raise ValueError(f"{file}: {found.dtype} {found.shape}; numbers (rows,) or (rows, numbers) are read")
    return {"": found}


def describe_tables(
    tables: Sequence[Table], files: Sequence[Path]
) -> tuple[tuple[ActionPart, ...], list[Mapping[str, Array]]]:
    """Return what was done as a space, and each table's actions as it takes them.

    Raises:
        ValueError: if the files have different columns, or too many choices.
    """
    names = [name for name in tables[0] if name not in TOLD]
    for table, file in zip(tables, files, strict=True):
        if table.keys() != tables[0].keys():
            there, first = (", ".join(one) or "one nameless" for one in (table, tables[0]))
            raise ValueError(f"{file}: its columns are {there}; those of {files[0].name} {first}")
    where = f"{files[0].parent}: columns of actions"
    whole = {name: all(table[name].dtype.kind == "i" for table in tables) for name in names}
    if len(set(whole.values())) == 1:  # one space for all
        joined = [np.concatenate([t[n].reshape(len(t[n]), -1) for n in names], 1) for t in tables]
        parts = describe_numbers(joined, integer=whole[names[0]], what=where)
        return parts, [{"": one} for one in joined]
    described = (describe_numbers([t[n] for t in tables], integer=whole[n], what=where, name=n) for n in names)
    return tuple(part for one in described for part in one), [{n: t[n] for n in names} for t in tables]


def _span(number: int, video: Video, table: Table, actions: Array) -> Span:
    """Check a table against its video."""
    rows = len(actions)
    if rows not in (len(video), len(video) - 1):
        raise ValueError(
            f"{video.path}: {len(video)} frames, and {rows} rows of actions beside it; a row is what was done at a "
            "frame, and the last frame may lack one"
        )
    told: Table = {name: table[name].astype(kind) for name, kind in TOLD.items() if name in table}
    over = [row for name in ("terminated", "truncated") if name in told for row in np.flatnonzero(told[name][:-1])]
    if over:
        raise ValueError(f"{actions_beside(video.path)}: row {min(over)} ends the episode, and it goes on")
    steps = {ACTION: actions, **told}
    known = rows == len(video) - 1 or bool(told)  # what the last action led to is shown, or said
    return Span(str(video.path), number, 0, len(video), steps if known else {n: v[:-1] for n, v in steps.items()})
