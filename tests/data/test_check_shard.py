"""Shards of somebody else: what they say of their sizes, and what they hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.fuzz.borders.shards import make_clip as clip
from worldenv.data.schema import read_shard, write_shard


def put(name: str, value: Any) -> Callable[[h5py.Group], None]:
    def change(group: h5py.Group) -> None:
        del group[name]
        group[name] = value

    return change


def declared(name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Callable[[h5py.Group], None]:
    def change(group: h5py.Group) -> None:
        del group[name]
        group.create_dataset(name, shape, "u1" if name == "frames" else "f4", chunks=chunks)

    return change


def settings(told: Any) -> Callable[[h5py.Group], None]:
    return lambda group: group.file.attrs.__setitem__("config", told)


def listed(name: str, where: str) -> Callable[[h5py.Group], None]:
    """Make an attribute a list of any length: where its bytes are damaged, HDF5 crashes on reading it."""
    value = np.empty(1, object)
    value[0] = np.arange(3)
    return lambda group: group.file[where].attrs.create(name, value, dtype=h5py.vlen_dtype(np.int64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (listed("config", "/"), "config is neither a number nor a text"),
        (listed("format", "/"), "format is neither a number nor a text"),
        (listed("kind", "clip_00001"), "/clip_00001: kind is neither a number nor a text"),
        (listed("sha256", "clip_00001/keys"), "/clip_00001/keys: sha256 is neither a number nor a text"),
        (put("frames", np.zeros((9, 8, 16, 3), np.float32)), r"frames is float32 \(9, 8, 16, 3\); uint8 frames"),
        (put("frames", np.zeros((8, 8, 16, 3), np.uint8)), r"uint8 frames, 1 \+ 4 F of them"),
        (put("c2w", np.full((3, 4, 4), np.nan)), r"c2w holds nan at \[0, 0, 0\]"),
        (put("c2w", 2 * np.eye(4)[None].repeat(3, 0)), "c2w: pose 0 is no rigid motion"),
        (put("c2w", np.eye(4)[None].repeat(2, 0)), r"expected floating-point numbers \(3, 4, 4\)"),
        (put("keys", np.full((3, 2), 99)), "keys holds 99 to 99; 0 to 8 are read"),
        (put("keys", np.full((3, 2), -5)), "keys holds -5"),
        (put("keys", np.zeros((1, 2), np.int64)), r"keys is int64 \(1, 2\), expected whole numbers \(3, 2\)"),
        (put("keys", "x"), "keys holds no numbers of its own"),
        (put("depth", np.full((9, 8, 16), -1.0)), "depth holds -1.0"),
        (declared("frames", (10**9 + 1 - 10**9 % 4, 8, 16, 3), (1, 8, 16, 3)), "0 are stored"),
        (declared("camera", (3, 5), (3, 5)), ""),
        (settings("[]"), r"config is '\[\]', not a table|config is \[\]"),
        (settings("{"), "config is not JSON"),
        (settings('{"spec": {"frames_per_latent": 0}}'), "frames_per_latent is 0; 1 and 4 are"),
    ],
)
def test_a_clip_is_what_it_has_to_be_or_refused(
    change: Callable[[h5py.Group], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "shard-00000.h5"
    write_shard(path, [clip(0), clip(1)], attributes={})
    with h5py.File(path, "a") as file:
        change(file["clip_00001"])
    if not said:  # zeros that nobody stored are zeros
        assert len(list(read_shard(path))) == 2
        return
    with pytest.raises(ValueError, match=said) as error:
        list(read_shard(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
