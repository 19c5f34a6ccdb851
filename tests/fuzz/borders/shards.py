"""Our recordings: shards (HDF5)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.damage import NO_POSES, damaged
from worldenv.base.config import to_dict
from worldenv.data.schema import Clip, read_shard, write_shard
from worldenv.dynamics.spec import WorldSpec

Change = Callable[[h5py.Group], None]


def shard(folder: Path) -> st.SearchStrategy[Case]:
    """A shard of two clips of a camera, with depth, rewards and a maze's attributes."""
    spec = WorldSpec(width=16, height=8)
    path = folder / "shard-00000.h5"
    config = json.dumps({"spec": to_dict(spec)})
    write_shard(path, [make_clip(seed) for seed in range(2)], attributes={"config": config, "fps": 24, "git": "abc"})
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

    menu = [case(*one) for one in _changed(make_clip(1))]
    menu += [case(*one) for one in _declared(folder)]
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        *damaged(data, case, longer=None),
    )


def make_clip(seed: int, num_latents: int = 3) -> Clip:
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
            "of texts": np.array(["x"] * len(value), dtype="S1"),
            "of complex numbers": value.astype(np.complex64),
            "of objects": np.zeros(len(value), [("a", "i4"), ("b", "f4")]),
        }
        if value.ndim > 1:
            wrong["flat"] = value.reshape(-1)
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
