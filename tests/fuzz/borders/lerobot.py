"""LeRobot data sets: ``info.json``, parquet, films."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.data.foreign import write_lerobot
from tests.fuzz.case import Case
from tests.fuzz.damage import damaged, leaves, of_another_type, put, shown, without
from worldenv.data.sources.lerobot import LeRobot


def parquet(folder: Path) -> st.SearchStrategy[Case]:
    """A LeRobot dataset of two episodes, decoded to the last frame."""
    write_lerobot(folder, [6, 5])
    info = json.loads((folder / "meta" / "info.json").read_text())
    files = {"data": "data/chunk-000/file-000.parquet", "episodes": "meta/episodes/chunk-000/file-000.parquet"}
    film = "videos/observation.images.top/chunk-000/file-000.mp4"

    def case(what: str, accept: bool | None, file: str, made: bytes | pa.Table | None) -> Case:
        def act(scratch: Path) -> None:
            shutil.copytree(folder, scratch, dirs_exist_ok=True, copy_function=os.link)
            (scratch / file).unlink()
            if isinstance(made, bytes):
                (scratch / file).write_bytes(made)
            elif made is not None:
                pq.write_table(made, scratch / file)
            reader = LeRobot(scratch)
            for span in reader.spans:
                for _ in reader.frames(span, 0, span.num_frames):
                    pass

        return Case(f"{file}: {what}", accept, act)

    told = "meta/info.json"
    menu = [case("as it is", True, told, json.dumps(info).encode())]
    menu += [case(what, accept, told, json.dumps(tree).encode()) for what, tree, accept in _infos(info)]
    menu += [
        case(f"{text[:20]!r}", False, told, text) for text in (b"", b"{", b"[" * 9000, b"1" * 9000, b"\xff", b"[]")
    ]
    for what, file in files.items():
        table = pq.read_table(folder / file)
        menu += [case(change, accept, file, made) for change, made, accept in _columns(table, what)]
        menu.append(case("absent", False, file, None))
    menu.append(case("absent", False, film, None))
    options = [st.sampled_from(menu), st.sampled_from(menu)]
    for file in (*files.values(), film):
        data = (folder / file).read_bytes()
        least = 128 if file == film else 0  # a film ends with who wrote it
        options += damaged(
            data, lambda what, accept, made, file=file: case(what, accept, file, made), least=least, longer=None
        )
    return st.one_of(options)


READ = ("codebase_version", "fps", "video_path", "data_path", "dtype")
"""Keys of ``info.json`` that are read."""


def _infos(info: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    camera = ("features", "observation.images.top")
    for path, value in leaves(info):
        needed = path[-1] in READ and path[0] != "features"
        for other in of_another_type(value):
            yield f"{shown(path)} is {other!r}", put(info, path, other), False if needed else None
        yield f"without {shown(path)}", without(info, path), False if needed else None
    for fps in (0, -1, 1e300, 10**30, float("nan"), float("inf")):
        yield f"fps {fps}", put(info, ("fps",), fps), False
    for path in (
        "../../{chunk_index}",
        "{",
        "{nothing}",
        "{video_key.__class__}",
        "{chunk_index:99999999999d}",
        "/etc/passwd",
        "",
        "{0}",
        "\x00",
    ):
        yield f"video_path {path!r}", put(info, ("video_path",), path), False
        yield f"data_path {path!r}", put(info, ("data_path",), path), False
    for gone in (("features",), ("features", "action"), camera):
        yield f"without {shown(gone)}", without(info, gone), False
        for other in ([], 3, "x", None, {}):
            yield f"{shown(gone)} is {other!r}", put(info, gone, other), False


def _columns(table: pa.Table, what: str) -> Iterator[tuple[str, pa.Table, bool | None]]:
    used = ("action", "episode_index", "frame_index", "next.reward", "next.done", "length")
    used += ("data/chunk_index", "data/file_index")
    for number, name in enumerate(table.column_names):
        column, read = table.column(name), name in used or name.startswith("videos/")
        verdict = False if read else None
        yield f"without {name}", table.drop_columns([name]), verdict
        count = len(column)
        others: dict[str, Any] = {
            "texts": pa.array(["x"] * count),
            "empty": pa.nulls(count),
            "lists": pa.array([[1.0]] * count if name != "action" else [[1.0]] * (count - 1) + [[1.0, 2.0]]),
            "with a gap": pa.array([None, *column.to_pylist()[1:]], type=column.type),
            "bytes": pa.array([b"\xff"] * count),
        }
        if pa.types.is_floating(column.type):
            others["with NaN"] = pa.array([float("nan"), *column.to_pylist()[1:]], type=column.type)
            others["with infinity"] = pa.array([float("inf"), *column.to_pylist()[1:]], type=column.type)
        if pa.types.is_integer(column.type):
            others["of -5"] = pa.array([-5] * count)
            others["of 2**62"] = pa.array([2**62] * count)
            others["of flags"] = pa.array([True] * count)
            others["of halves"] = pa.array([0.5] * count)
        for change, made in others.items():
            yield f"{name} {change}", table.set_column(number, name, made), verdict
    yield "of no rows", table.slice(0, 0), False
    yield "a row less", table.slice(0, len(table) - 1), False
    yield "twice", pa.concat_tables([table, table]), False
    yield "in reverse", table.take(list(range(len(table)))[::-1]), what != "data"
