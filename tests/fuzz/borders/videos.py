"""Folders of videos with actions beside them: tables, rows, arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.data.foreign import pictures, write_video
from tests.fuzz.case import Case
from tests.fuzz.damage import cuts, flips, no_file_of_its_kind, put
from worldenv.data.sources.videos import Videos
from worldenv.data.video import open_video


def video(folder: Path) -> st.SearchStrategy[Case]:
    """Folders of a video with a table of actions beside it, decoded to the last frame."""
    path = write_video(folder / "drive.mp4", pictures(12))
    data = path.read_bytes()
    rows = [[i % 3, i * 0.5] for i in range(11)]
    table = "key,speed\n" + "".join(f"{a},{b}\n" for a, b in rows)

    def case(
        what: str, accept: bool | None, made: bytes, text: Any, suffix: str = ".csv", names: str = "drive"
    ) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "drive.mp4").write_bytes(made)
            beside = scratch / f"drive{suffix}"
            beside.write_bytes(text) if isinstance(text, bytes) else beside.write_text(text)
            reader = Videos(scratch)
            for span in reader.spans:
                for _ in reader.frames(span, 0, span.num_frames):
                    pass

        return Case(what, accept, act, names=names if accept is False and "huge" not in what else "")

    def film(what: str, accept: bool | None, made: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "drive.mp4").write_bytes(made)
            found = open_video(scratch / "drive.mp4")
            for _ in found.frames(0, len(found)):
                pass

        return Case(what, accept, act, names="drive.mp4" if accept is False else "")

    menu = [case("as it is", True, data, table)]
    menu += [case(f"table: {what}", accept, data, text) for what, text, accept in _tables(table)]
    menu += [case(f"rows: {what}", accept, data, json.dumps(made), ".json") for what, made, accept in _rows(rows)]
    menu += [
        case(f"rows: {told[:20]!r}", False, data, told, ".json")
        for told in ("", "{", "[" * 9000, "1" * 9000, "[[1e999]]")
    ]
    arrays = _arrays(folder)
    menu += [case(f"array: {what}", accept, data, made, ".npy") for what, accept, made in arrays]
    npy = next(made for what, _, made in arrays if what == "as it is")
    text = table.encode()
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        cuts(data, least=128).map(lambda made: film(made[0], False, made[1])),
        flips(data).map(lambda made: film(made[0], None, made[1])),
        no_file_of_its_kind().map(lambda made: film(made[0], False, made[1])),
        cuts(npy).map(lambda made: case(f"array {made[0]}", False, data, made[1], ".npy")),
        flips(npy).map(lambda made: case(f"array {made[0]}", None, data, made[1], ".npy")),
        flips(text).map(lambda made: case(f"table {made[0]}", None, data, made[1])),
        no_file_of_its_kind().map(lambda made: case(f"table {made[0]}", False, data, made[1])),
    )


def _tables(table: str) -> Iterator[tuple[str, str, bool | None]]:
    names, *rows = table.splitlines()
    for cell in ("x", "", "nan", "inf", "-inf", "1e999", "1,2", "'"):
        for row in (0, 5, 10):
            changed = [*rows[:row], f"1,{cell}", *rows[row + 1 :]]
            yield f"row {row} holds {cell!r}", "\n".join([names, *changed]) + "\n", False
    for head in ("", "key", "key,key", "1,2", "reward,terminated", "key,speed,more"):
        yield f"names are {head!r}", "\n".join([head, *rows]) + "\n", False
    for count in (0, 1, 10):
        yield f"{count} rows", "\n".join([names, *rows[:count]]) + "\n", False
    yield "12 rows", "\n".join([names, *rows, "1,1.5"]) + "\n", True
    yield "13 rows", "\n".join([names, *rows, "1,1.5", "1,1.5"]) + "\n", False
    yield "with spaces", table.replace(",", ", "), True
    yield "huge choices", table.replace("\n2,", "\n1000000000,"), False
    yield "choices beyond any integer", table.replace("\n2,", f"\n{10**30},"), False
    yield "negative choices", table.replace("\n2,", "\n-2,"), True
    yield "a row of 70,000 numbers", "\n".join([",".join(f"n{i}" for i in range(70_000))] * 2) + "\n", False


def _rows(rows: list[list[float]]) -> Iterator[tuple[str, Any, bool | None]]:
    yield "as they are", rows, True
    yield "by name", [{"key": a, "speed": b} for a, b in rows], True
    yield "of nothing", [[] for _ in rows], False
    for name in ("reward", "terminated"):
        yield f"with two of {name}", [{"key": a, name: [0, 0]} for a, _ in rows], False
    for other in ({}, [], 3, "x", None, [rows]):
        yield f"{str(other)[:20]}", other, False
    for at in (0, 5, 10):
        for other in (None, "x", [], {}, [1], [1, 2, 3], [1, "x"], [1, None], [1, [2]], [1, 10**400], {"key": 1}):
            yield f"row {at} is {str(other)[:20]}", put(rows, (at,), other), False


def _arrays(folder: Path) -> list[tuple[str, bool | None, bytes]]:
    good = np.arange(22, dtype=np.float32).reshape(11, 2)
    made: dict[str, tuple[bool | None, Any]] = {
        "as it is": (True, good),
        "whole numbers": (True, good.astype(np.int32)),
        "flags": (True, good > 3),
        "complex": (False, good.astype(np.complex64)),
        "texts": (False, good.astype("U4")),
        "objects": (False, np.array([None] * 11)),
        "of no rows": (False, good[:0]),
        "of no numbers": (False, good[:, :0]),
        "with three axes": (False, good[..., None]),
        "a number": (False, good[0, 0]),
        "with NaN": (False, np.where(good > 20, np.nan, good)),
        "with infinity": (False, np.where(good > 20, np.inf, good)),
        "of 13 rows": (False, np.ones((13, 2))),
        "beyond any integer": (False, np.full(11, 2**64 - 1, np.uint64)),
        "beyond any float": (False, np.full(11, 1e300)),
        "of long floats": (True, good.astype(np.longdouble)),
        "of short floats": (True, good.astype(np.float16)),
        "huge choices": (False, (good * 1e6).astype(np.int64)),
        "structured": (False, np.zeros(11, [("a", "f4")])),
    }
    found: list[tuple[str, bool | None, bytes]] = []
    for what, (accept, value) in made.items():
        np.save(folder / "made.npy", value, allow_pickle=True)
        found.append((what, accept, (folder / "made.npy").read_bytes()))
    np.save(folder / "made.npy", good)
    data = (folder / "made.npy").read_bytes()
    for shape in ("(99999999999, 2)", "(-1, 2)", "(11, 2, 1, 1, 1, 1, 1, 1, 1, 1)", "(11,", "x", "(2**99, 2)"):
        wrong = data.replace(b"(11, 2), }", f"{shape}, }}".encode())
        found.append((f"said to be {shape}", False, wrong))
    return found
