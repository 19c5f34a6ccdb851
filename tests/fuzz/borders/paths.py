"""Camera paths: trajectories in three formats, pose strings, and clips of arrays (npz)."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.damage import NO_POSES, cuts, damaged, flips, no_file_of_its_kind, put, without
from worldenv.eval.suites.cases import Cases
from worldenv.eval.suites.external import read_videos
from worldenv.geometry.pose import look
from worldenv.geometry.pose_string import parse_pose_string
from worldenv.geometry.trajectory_file import read_trajectory

NUMBERS = ("nan", "inf", "-inf", 1e300, -1e300, 10**400, "x", None, [], {}, True, "1")
"""Values that are no coordinate."""


def trajectory(folder: Path) -> st.SearchStrategy[Case]:
    """Paths of five poses in each format."""
    c2w = look(torch.arange(15).reshape(5, 3).double() / 10, torch.arange(5).double() / 7)
    poses = c2w.tolist()
    ours = {
        str(i): {"extrinsic": pose, "K": [[900.0, 0, 960.0], [0, 900.0, 540.0], [0, 0, 1.0]]}
        for i, pose in enumerate(poses)
    }
    camera = {"w": 64, "h": 48, "fl_x": 32.0, "fl_y": 32.0}
    theirs = {**camera, "frames": [{"file_path": f"{i}.png", "transform_matrix": pose} for i, pose in enumerate(poses)]}
    lines = [
        [i, 0.5, 0.7, 0.5, 0.5, 0, 0, *torch.linalg.inv(pose)[:3].flatten().tolist()] for i, pose in enumerate(c2w)
    ]

    def case(what: str, accept: bool | None, made: bytes | str) -> Case:
        def act(scratch: Path) -> None:
            file = scratch / "path.json"
            file.write_bytes(made if isinstance(made, bytes) else made.encode())
            found = read_trajectory(file)
            assert found.c2w.isfinite().all()
            assert found.K.isfinite().all()

        return Case(what, accept, act, names="path.json" if accept is False else "")

    def written(tree: Any) -> str:
        """JSON with constants that Python takes, and numbers that no float holds."""
        return json.dumps(tree).replace('"nan"', "NaN").replace('"inf"', "Infinity").replace('"-inf"', "-Infinity")

    menu = []
    for name, tree, at in (
        ("worldplay", ours, ("2", "extrinsic")),
        ("nerfstudio", theirs, ("frames", 2, "transform_matrix")),
    ):
        menu.append(case(f"{name}: as it is", True, written(tree)))
        menu += [case(f"{name}: {what}", accept, written(made)) for what, made, accept in _changed(tree, at)]
    for what, made, accept in _cameras(ours, theirs):
        menu.append(case(what, accept, written(made)))
    menu += [case(f"lines: {what}", accept, made) for what, made, accept in _lines(lines)]
    menu += [
        case(repr(told[:20]), False, told)
        for told in ("", "{}", "[]", "3", "null", "[" * 9000, "1" * 9000, '{"a": ' * 9000)
    ]
    files = [
        written(ours).encode(),
        written(theirs).encode(),
        "\n".join(" ".join(map(str, line)) for line in lines).encode(),
    ]
    options = [st.sampled_from(menu), st.sampled_from(menu)]
    for number, data in enumerate(files):
        # the last number of a line may be cut and still be one
        options.append(
            cuts(data).map(lambda made, n=number: case(f"format {n} {made[0]}", None if n == 2 else False, made[1]))
        )
        options.append(flips(data).map(lambda made, n=number: case(f"format {n} {made[0]}", None, made[1])))
    return st.one_of(*options, no_file_of_its_kind().map(lambda made: case(made[0], False, made[1])))


def _changed(tree: Any, at: tuple[Any, ...]) -> Iterator[tuple[str, Any, bool | None]]:
    """Change one pose, at this path."""
    pose = tree
    for key in at:
        pose = pose[key]
    yield "without a pose", without(tree, at), False
    for other in (
        None,
        3,
        "x",
        [],
        {},
        pose[:3],
        [row[:3] for row in pose],
        [pose],
        [*pose, pose[0]],
        [[], [], [], []],
    ):
        yield f"a pose is {str(other)[:40]}", put(tree, at, other), False
    for row in range(4):
        for column in range(4):
            for number in NUMBERS:
                if number in (1e300, -1e300) and column == 3 and row < 3:
                    continue  # judged with positions, below
                accept = bool((number is True or number == pose[row][column]) and pose[row][column] == 1)
                accept = None if number is True or number == "1" else accept
                yield f"[{row}][{column}] is {str(number)[:12]!r}", put(tree, (*at, row, column), number), accept
    for what, change in NO_POSES.items():
        yield what, put(tree, at, change(torch.tensor(pose, dtype=torch.float64)).tolist()), False
    for number in (1e300, 1e15, -1e12):
        yield f"{number:g} metres away", put(tree, (*at, 0, 3), number), False
    for number in (0, 1, -3, 1000, 2.5):
        yield f"{number} metres away", put(tree, (*at, 0, 3), number), True


def _cameras(ours: Any, theirs: Any) -> Iterator[tuple[str, Any, bool | None]]:
    wrong = ("nan", "inf", "-inf", 0, -1, 1e300, 10**400, "x", None, [], {}, 1e-300)
    for number in wrong:
        for at in (("2", "K", 0, 0), ("2", "K", 1, 1), ("2", "K", 0, 2)):
            yield f"worldplay: {at} is {str(number)[:12]!r}", put(ours, at, number), False
        for key in ("w", "h", "fl_x"):
            yield f"nerfstudio: {key} is {str(number)[:12]!r}", put(theirs, (key,), number), False
        both = put(theirs, ("fl_x",), 0)
        yield f"nerfstudio: camera_angle_x is {str(number)[:12]!r}", {**both, "camera_angle_x": number}, False
    for K in (None, [], 3, "x", [[1]], [[1, 0, 1], [0, 1, 1]]):
        yield f"worldplay: K is {K}", put(ours, ("2", "K"), K), False
    yield "worldplay: no K", {key: {"extrinsic": one["extrinsic"]} for key, one in ours.items()}, True
    yield "worldplay: an entry of nothing", {**ours, "9": {}}, False
    yield "worldplay: entries in a list", list(ours.values()), False
    for frames in ([], None, 3, "x", {}, [3], [None], [[]]):
        yield f"nerfstudio: frames are {frames}", {**theirs, "frames": frames}, False
    yield "nerfstudio: something beside", {**theirs, "notes": "x"}, True


def _lines(lines: list[list[float]]) -> Iterator[tuple[str, str, bool | None]]:
    def text(rows: list[list[Any]]) -> str:
        return "\n".join(["https://example.org/video", *(" ".join(map(str, row)) for row in rows)])

    yield "as they are", text(lines), True
    yield "none", text([]), False
    for place in range(7, 19):
        for number in ("nan", "inf", "1e400", "x", "--1", "0x10"):
            yield f"number {place} is {number}", text(put(lines, (2, place), number)), False
    for place in (1, 2):
        for number in ("nan", "inf", "0", "-1", "1e300", "x"):
            yield f"focal length {place} is {number}", text(put(lines, (2, place), number)), False
    for count in (0, 1, 18, 20):
        yield f"a line of {count} numbers", text([*lines, [1] * count]), count == 0
    yield "mirrored", text([*lines[:4], [*lines[4][:7], *(-x for x in lines[4][7:])]]), False


def pose_string(folder: Path) -> st.SearchStrategy[Case]:
    """Pose strings."""
    keys = st.sampled_from(["w", "s", "a", "d", "right", "left", "up", "down", "w+right", "s+left+up", "w+d"])
    segment = st.tuples(keys, st.integers(1, 40)).map(lambda one: f"{one[0]}-{one[1]}")
    good = st.lists(segment, min_size=1, max_size=8).map(", ".join)
    wrong = st.sampled_from(
        [
            "w",
            "w-",
            "-3",
            "w-0",
            "w--3",
            "w-x",
            "w-nan",
            "w-inf",
            "w-1e9",
            "w-10000000",
            f"w-{10**30}",
            "w-8.5",
            "w-.",
            "w-²",
            "q-3",
            "w+s-3",
            "w+w-3",
            "left+right-1",
            "+w-3",
            "w+-3",
            "w-3;s-3",
            "\x00-3",
            "w-٣",
            "w - 3 3",
            "w-0.5",
            f"w-{'9' * 5000}",
            "W-3",
        ]
    )

    def case(text: str, accept: bool | None) -> Case:
        return Case(f"{text[:80]!r}", accept, lambda _: parse_pose_string(text))

    return st.one_of(
        good.map(lambda text: case(text, True)),
        st.tuples(good, wrong).map(lambda two: case(", ".join(two), False)),
        st.tuples(wrong, good).map(lambda two: case(", ".join(two), False)),
        st.tuples(good, st.sampled_from([",", ", ", " ,,", "  "])).map(lambda two: case("".join(two), True)),
        st.text(max_size=20).map(lambda text: case(text, None)),
    )


def clip(folder: Path) -> st.SearchStrategy[Case]:
    """Clips of a suite that were made elsewhere, as npz."""
    shape = (1, 9, 8, 8, 3)
    eye = torch.eye(4, dtype=torch.float64)[None]
    keys, c2w = torch.zeros(1, 2, 2, dtype=torch.long), eye[:, None].expand(1, 2, 4, 4)
    cases = Cases([7], ["loop"], eye, c2w, keys, torch.zeros(shape, dtype=torch.uint8), torch.zeros(1, 9))
    frames = np.random.default_rng(0).integers(0, 256, shape[1:], dtype=np.uint8)
    plain, packed = _npz(frames=frames), _npz(compressed=True, frames=frames)

    def case(what: str, accept: bool | None, data: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "7-loop.npz").write_bytes(data)
            read_videos(scratch, cases)

        return Case(what, accept, act, names="7-loop" if accept is False else "")

    menu = [
        case("as it is", True, plain),
        case("compressed", True, packed),
        case("and others", True, _npz(frames=frames, K=np.eye(3))),
    ]
    wrong: dict[str, Any] = {
        "floats": frames / 255,
        "of int8": frames.astype(np.int8),
        "flat": frames.reshape(-1),
        "a frame less": frames[:-1],
        "a frame more": frames[[*range(9), 0]],
        "channels first": frames.transpose(0, 3, 1, 2),
        "texts": frames.astype("U3"),
        "structured": np.zeros(9, [("a", "u1")]),
        "objects": np.array([None] * 9),
        "none": frames[:0],
        "big-endian": frames.astype(">u2"),
        "in Fortran's order": None,
    }
    for what, value in wrong.items():
        accept = value is None
        menu.append(case(f"frames {what}", accept, _npz(frames=np.asfortranarray(frames) if value is None else value)))
    menu += [case("no frames", False, _npz(pictures=frames)), case("nothing", False, _npz())]
    menu += [case(what, False, data) for what, data in _bombs(frames)]
    options = [st.sampled_from(menu), st.sampled_from(menu)]
    for what, data in (("plain", plain), ("packed", packed)):
        options += damaged(data, lambda how, accept, made, what=what: case(f"{what} {how}", accept, made), longer=None)
    return st.one_of(*options)


def _npz(*, compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def _bombs(frames: Any) -> Iterator[tuple[str, bytes]]:
    """Archives that hold, or say that they hold, more than anybody has."""
    array = io.BytesIO()
    np.save(array, frames)
    for shape in ("(99999999, 99999, 8, 3)", "(9, 8, 8, -3)", "(2**99,)", "(9, 8, 8, 3", "(1000000000, 8, 8, 3)"):
        said = array.getvalue().replace(b"(9, 8, 8, 3), }", f"{shape}, }}".encode())
        yield f"said to be {shape}", _zip("frames.npy", said)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1_000_000_000,)})
    yield "a gigabyte of zeros", _zip("frames.npy", head.getvalue(), 1_000_000_000)
    yield "a pickle", _zip("frames.npy", b"\x80\x04N.")
    yield "no array", _zip("frames.npy", b"hello")
    yield "empty", _zip("frames.npy", b"")
    yield "by a path", _zip("../frames.npy", array.getvalue())


def _zip(name: str, data: bytes, zeros: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as into:
        into.write(data)
        block = bytes(2**20)
        for _ in range(math.ceil(zeros / len(block))):
            into.write(block)
    return file.getvalue()
