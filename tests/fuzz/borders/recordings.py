"""Recordings: our shards (HDF5), and those of others: videos with actions beside them, LeRobot's parquet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st

from tests.data.foreign import pictures, write_lerobot, write_video
from tests.fuzz.borders.worlds import NO_POSES
from tests.fuzz.case import Case
from tests.fuzz.damage import (
    appended,
    cuts,
    flips,
    leaves,
    no_file_of_its_kind,
    of_another_type,
    put,
    shown,
    without,
)
from worldenv.base.config import to_dict
from worldenv.data.schema import Clip, read_shard, write_shard
from worldenv.data.sources.lerobot import LeRobot
from worldenv.data.sources.videos import Videos
from worldenv.data.video import open_video
from worldenv.dynamics.spec import WorldSpec

Change = Callable[[h5py.Group], None]


def shard(folder: Path) -> st.SearchStrategy[Case]:
    """A shard of two clips of a camera, with depth, rewards and a maze's attributes."""
    spec = WorldSpec(width=16, height=8)
    path = folder / "shard-00000.h5"
    config = json.dumps({"spec": to_dict(spec)})
    write_shard(path, [_clip(seed) for seed in range(2)], attributes={"config": config, "fps": 24, "git": "abc"})
    data = path.read_bytes()

    def case(what: str, accept: bool | None, change: Change | bytes) -> Case:
        def act(scratch: Path) -> None:
            file = scratch / "shard-00000.h5"
            file.write_bytes(data if callable(change) else change)
            if callable(change):
                with h5py.File(file, "a") as opened:
                    change(opened["clip_00001"])
            for _ in read_shard(file):
                pass

        return Case(what, accept, act, names="shard-00000.h5" if accept is False else "")

    menu = [case(*one) for one in _changed(_clip(1))]
    menu += [case(*one) for one in _declared(folder)]
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        cuts(data).map(lambda made: case(made[0], False, made[1])),
        appended(data).map(lambda made: case(made[0], None, made[1])),
        flips(data).map(lambda made: case(made[0], None, made[1])),
        no_file_of_its_kind().map(lambda made: case(made[0], False, made[1])),
    )


def _clip(seed: int, num_latents: int = 3) -> Clip:
    rng, num_frames = np.random.default_rng(seed), 4 * num_latents - 3
    c2w = np.eye(4)[None].repeat(num_latents, 0)
    c2w[:, 2, 3] = np.arange(num_latents)
    signals = {
        "K": np.array([[8, 0, 8], [0, 8, 4], [0, 0, 1]], np.float32),
        "c2w": c2w,
        "c2w_commanded": c2w.copy(),
        "keys": rng.integers(0, 9, (num_latents, 2)),
        "camera": rng.random((num_latents, 5)).astype(np.float32),
        "depth": (1 + rng.random((num_frames, 8, 16))).astype(np.float16),
        "segmentation": rng.integers(0, 3, (num_frames, 8, 16), dtype=np.uint8),
        "reward": np.arange(num_latents, dtype=np.float32),
        "terminated": np.zeros(num_latents, bool),
        "truncated": np.zeros(num_latents, bool),
    }
    frames = rng.integers(0, 256, (num_frames, 8, 16, 3), dtype=np.uint8)
    return Clip(frames, signals, {"kind": "loop", "map_seed": 7, "text": "a maze"})


def _replaced(name: str, value: Any) -> Change:
    def change(group: h5py.Group) -> None:
        del group[name]
        group.create_dataset(name, data=value)

    return change


def _changed(clip: Clip) -> Iterator[tuple[str, bool | None, Change]]:
    """Change one dataset, or attribute, after the other."""
    yield "as it is", True, lambda group: None
    for name, value in {"frames": clip.frames, **clip.signals}.items():
        yield f"{name} written again", True, _replaced(name, value)
        yield f"without {name}", False if name == "frames" else None, lambda group, name=name: group.__delitem__(name)
        wrong = {
            "as text": "x",
            "as a number": 3,
            "empty": value[:0],
            "of one row less": value[:-1],
            "of one axis more": value[None],
            "flat": value.reshape(-1),
            "of texts": np.array(["x"] * len(value), dtype="S1"),
            "of complex numbers": value.astype(np.complex64),
            "of objects": np.zeros(len(value), [("a", "i4"), ("b", "f4")]),
        }
        if value.dtype.kind == "f":
            for number in (np.nan, np.inf, -np.inf):
                broken = value.copy()
                broken.reshape(-1)[-1] = number
                wrong[f"with {number}"] = broken
            wrong["as whole numbers"] = value.astype(np.int16)
        else:
            wrong["as halves"] = value.astype(np.float16)
        if name in ("c2w", "c2w_commanded"):
            for what, pose in NO_POSES.items():
                made = torch.from_numpy(value.copy())
                made[-1] = pose(made[-1])
                wrong[what] = made.numpy()
        if name == "keys":
            for code in (-1, 9, 99, -(2**62)):
                wrong[f"with {code}"] = np.where(np.arange(value.size).reshape(value.shape) == 3, code, value)
        if name == "depth":
            wrong["behind the camera"] = -value
        for what, other in wrong.items():
            yield f"{name} {what}", False, _replaced(name, other)
        yield f"{name} is a folder", False, lambda group, name=name: _as_folder(group, name)
    for name, value in {
        "format": [99, "x", -1, [1, 2], 2.5],
        "config": ["{", "[]", "3", "[" * 5000, '{"spec": []}', '{"spec": {"frames_per_latent": "x"}}', 3],
    }.items():
        for other in value:
            yield (
                f"attribute {name} is {str(other)[:40]!r}",
                False,
                lambda group, name=name, other=other: group.file.attrs.__setitem__(name, other),
            )
    yield "without format", False, lambda group: group.file.attrs.__delitem__("format")
    for every in (0, -1, 3, 10**9, None, 1.5):
        told = json.dumps({"spec": {"frames_per_latent": every}})
        yield f"frames_per_latent {every}", False, lambda group, told=told: group.file.attrs.__setitem__("config", told)
    yield "a clip that is a number", False, lambda group: group.file.create_dataset("clip_00002", data=3).flush()
    yield "a clip of nothing", False, lambda group: group.file.create_group("clip_00002")
    yield "something beside the clips", True, lambda group: group.file.create_group("notes")


def _as_folder(group: h5py.Group, name: str) -> None:
    del group[name]
    group.create_group(name)


def _declared(folder: Path) -> Iterator[tuple[str, bool | None, Change]]:
    """Declare more than is stored, and let datasets lie elsewhere."""
    secret = folder / "secret.bin"
    secret.write_bytes(bytes(8 * 16 * 3 * 9))
    other = folder / "other.h5"
    with h5py.File(other, "w") as file:
        file["frames"] = np.zeros((9, 8, 16, 3), np.uint8)

    def huge(name: str, shape: tuple[int, ...], dtype: Any, **how: Any) -> Change:
        def change(group: h5py.Group) -> None:
            del group[name]
            group.create_dataset(name, shape, dtype, **how)

        return change

    for rows in (10**6, 10**8, 10**10):
        chunked = {"chunks": (1, 8, 16, 3)}
        yield f"frames of {rows} rows, none stored", False, huge("frames", (rows, 8, 16, 3), "u1", **chunked)
        yield f"frames {rows} wide, none stored", False, huge("frames", (9, 8, rows, 3), "u1", chunks=(1, 8, 16, 3))
        packed = {"chunks": (1, 4, 4), "compression": "gzip"}
        yield f"poses of {rows} rows, none stored", False, huge("c2w", (rows, 4, 4), "f8", **packed)
        yield f"action of {rows} numbers, none stored", False, huge("camera", (3, rows), "f4", chunks=(1, 1024))

    def outside(group: h5py.Group) -> None:
        del group["frames"]
        group.create_dataset("frames", (9, 8, 16, 3), "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def linked(group: h5py.Group) -> None:
        del group["frames"]
        group["frames"] = h5py.ExternalLink(str(other), "frames")

    def virtual(group: h5py.Group) -> None:
        del group["frames"]
        layout = h5py.VirtualLayout((9, 8, 16, 3), "u1")
        layout[:] = h5py.VirtualSource(str(other), "frames", (9, 8, 16, 3))
        group.create_virtual_dataset("frames", layout)

    def nowhere(group: h5py.Group) -> None:
        del group["keys"]
        group["keys"] = h5py.SoftLink("/nowhere")

    yield "frames in another file", False, outside
    yield "a link to another file", False, linked
    yield "frames made of another file's", False, virtual
    yield "keys linked to nothing", False, nowhere


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
        options += [
            cuts(data, least=128 if file == film else 0).map(  # a film ends with who wrote it
                lambda made, file=file: case(made[0], False, file, made[1])
            ),
            flips(data).map(lambda made, file=file: case(made[0], None, file, made[1])),
            no_file_of_its_kind().map(lambda made, file=file: case(made[0], False, file, made[1])),
        ]
    return st.one_of(options)


READ = ("codebase_version", "fps", "video_path", "dtype")
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
    for gone in (("features",), ("features", "action"), camera):
        yield f"without {shown(gone)}", without(info, gone), False
        for other in ([], 3, "x", None, {}):
            yield f"{shown(gone)} is {other!r}", put(info, gone, other), False


def _columns(table: pa.Table, what: str) -> Iterator[tuple[str, pa.Table, bool | None]]:
    used = ("action", "episode_index", "frame_index", "next.reward", "next.done", "length", "data/chunk_index")
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
        for change, made in others.items():
            yield f"{name} {change}", table.set_column(number, name, made), verdict
    yield "of no rows", table.slice(0, 0), False
    yield "a row less", table.slice(0, len(table) - 1), False
    yield "twice", pa.concat_tables([table, table]), False
    yield "in reverse", table.take(list(range(len(table)))[::-1]), what != "data"
