"""Minari's data sets: what they say of their spaces, and what their episodes hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from tests.data.test_minari import FILE, write_minari
from tests.fuzz.borders.documents import BROKEN
from tests.fuzz.case import Case
from tests.fuzz.damage import flips, leaves, of_another_type, put, shown, without
from worldenv.data.sources.minari import Minari

Change = Callable[[h5py.File], None]
NO_SPACES: tuple[Any, ...] = (
    *(3, [], {}, {"type": 3}, {"type": []}, {"type": "Tuple"}, {"type": "Box"}, {"type": "Dict"}, {"type": "Discrete"}),
    *({"type": "Discrete", "n": n} for n in (0, -1, 10**9, 2**62, 10**30, "x", 1.5, None, [])),
    {"type": "Discrete", "n": 3, "start": "x"},
    *({"type": "MultiDiscrete", "nvec": n, "dtype": "int64"} for n in ([10**9] * 3, [], 3, "x", [[2], [2, 3]])),
    {"type": "MultiDiscrete", "nvec": [2, 3], "dtype": "object"},
    {"type": "Discrete", "n": True},
    {"type": "MultiDiscrete", "nvec": [2, True], "dtype": "int64"},
    *({"type": "MultiBinary", "n": n} for n in (10**9, "x", [], -1, [10**6, 10**6])),
    *({"type": "Box", "low": -1, "high": 1, "shape": s, "dtype": "float32"} for s in ([10**9], "x", [-2], [2])),
    *({"type": "Box", "low": [-1], "high": [1], "shape": [1], "dtype": kind} for kind in ("U3", "nothing", 3, None)),
    *({"type": "Dict", "subspaces": parts} for parts in ({}, [], 3, {"a": 3}, {"a": {}}, {"a/b": {"type": "Text"}})),
)
"""What describes no space that can be embedded."""
TOLD = ("rewards", "terminations", "truncations", "actions/gear", "actions/steer")


def minari(folder: Path) -> st.SearchStrategy[Case]:
    """A data set of two episodes, decoded to the last frame."""
    own = folder / "own"
    write_minari(own, [3, 2])
    told, whole = json.loads((own / "metadata.json").read_text()), (own / FILE).read_bytes()

    def case(what: str, accept: bool | None, file: str, made: bytes | Change) -> Case:
        def act(scratch: Path) -> None:
            shutil.copytree(own, scratch / "own", copy_function=os.link)
            (scratch / "own" / file).unlink()
            (scratch / "own" / file).write_bytes(whole if callable(made) else made)
            if callable(made):
                with h5py.File(scratch / "own" / file, "a") as opened:
                    made(opened)
            reader = Minari(scratch / "own")
            for span in reader.spans:
                for _ in reader.frames(span, 0, span.num_frames):
                    pass

        return Case(f"{file}: {what}", accept, act, names="own" if accept is False else "")

    menu = [case("as it is", True, FILE, whole)]
    for what, accept, said in _metadata(told):
        menu.append(case(what, accept, "metadata.json", said.encode()))
    menu += [case(what, False, FILE, change) for what, change in _changes(own / FILE)]
    return st.one_of(
        st.sampled_from([one for one in menu if one.accept is not None]),
        st.sampled_from(menu),
        flips(whole).map(lambda made: case(made[0], None, FILE, made[1])),
    )


def _metadata(told: dict[str, Any]) -> Iterator[tuple[str, bool | None, str]]:
    for text in BROKEN:
        yield f"{text[:9]!r}", False, text
    for key in ("action_space", "observation_space"):
        yield f"without {key}", False, json.dumps(without(told, (key,)))
        for other in (None, 3, [], *BROKEN):
            yield f"{key} is {str(other)[:9]!r}", False, json.dumps({**told, key: other})
        for space in NO_SPACES:
            yield f"{key} is {str(space)[:80]}", False, json.dumps({**told, key: json.dumps(space)})
        tree = json.loads(told[key])
        for path, value in leaves(tree):
            if sum(part for part in path if isinstance(part, int)):
                continue  # bounds of a picture, all alike
            for other in (*of_another_type(value), -1, 10**30, None, float("nan")):
                made = json.dumps(put(tree, path, other))
                yield f"{key}: {shown(path)} is {str(other)[:20]!r}", None, json.dumps({**told, key: made})
            yield f"{key}: without {shown(path)}", None, json.dumps({**told, key: json.dumps(without(tree, path))})


def _stepless(opened: h5py.File) -> None:
    """Let an episode be over before anything is done."""
    for name in TOLD:
        del opened[f"episode_1/{name}"]
        opened[f"episode_1/{name}"] = opened[f"episode_0/{name}"][:0]
    first = opened["episode_1/observations/top"][:1]
    del opened["episode_1/observations/top"]
    opened["episode_1/observations/top"] = first


def _changes(file: Path) -> Iterator[tuple[str, Change]]:
    """Replace what is told of an episode by what is not told so."""

    def replaced(name: str, value: Any, **how: Any) -> Change:
        def change(opened: h5py.File) -> None:
            del opened[name]
            opened.create_dataset(name, data=value, **how)

        return change

    for told in TOLD:
        name = f"episode_1/{told}"
        with h5py.File(file) as opened:
            values = opened[name][()]
        count, wide = len(values), values.shape[1:]
        for what, other in {
            "a number": 3,
            "a text": "x",
            "texts": np.array(["x"] * count, "S1"),
            "complex": values.astype(np.complex64),
            "of fields": np.zeros(count, [("a", "i4")]),
            "empty": values[:0],
            "of one axis more": values[None],
            "twice in a row": np.stack([values, values], -1),
            "a row less": values[:-1],
            "nothing": h5py.Empty("f4"),
        }.items():
            yield f"{told} is {what}", replaced(name, other)
        how = {"shape": (10**10, *wide), "dtype": values.dtype, "chunks": (1, *wide)}
        yield f"{told} of ten thousand million rows, none stored", replaced(name, None, **how)
        yield f"{told} of references", replaced(name, None, shape=(count,), dtype=h5py.ref_dtype)
        yield f"{told} of texts of any length", replaced(name, None, shape=(count,), dtype=h5py.string_dtype())
        yield f"{told} of arrays of any length", replaced(name, None, shape=(count,), dtype=h5py.vlen_dtype(np.float32))
    yield "an episode without steps", _stepless
    yield "choices that are halves", replaced("episode_1/actions/gear", np.full(2, 0.5))
    yield "an episode of nothing", lambda opened: opened.create_group("episode_9").file.flush()
    yield "an episode that is a number", lambda opened: opened.create_dataset("episode_9", data=3).file.flush()
