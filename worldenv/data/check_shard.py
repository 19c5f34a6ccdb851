"""What a shard has to hold: sizes before anything of that size is read, values before anybody learns from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from ..base.documents import parse_json
from ..dynamics.spec import FRAMES_PER_LATENT
from ..geometry.pose import is_rigid

Array = npt.NDArray[Any]
MOST_BYTES = 2**31
"""Of a data set."""
UNCHECKED_BYTES = 2**26
"""Of a data set that may be stored in as few bytes as it likes."""
MOST_PACKED = 1100
"""Bytes that a stored one stands for at most: a little more than gzip reaches on zeros."""
KNOWN: Mapping[str, tuple[str, tuple[str | int, ...]]] = {
    "frames": ("u", ("T", "H", "W", 3)),
    "depth": ("f", ("T", "H", "W")),
    "segmentation": ("u", ("T", "H", "W")),
    "K": ("f", (3, 3)),
    "c2w": ("f", ("F", 4, 4)),
    "c2w_commanded": ("f", ("F", 4, 4)),
    "keys": ("i", ("F", 2)),
    "camera": ("f", ("F", 5)),
    "reward": ("f", ("F",)),
    "terminated": ("b", ("F",)),
    "truncated": ("b", ("F",)),
    "is_first": ("b", ("F",)),
    "action": ("f", ("F", "D")),
    "distances": ("f", ("F", "N")),
}
"""Kind of numbers and shape of each data set; a letter is any size, the same wherever it stands. Others, of bodies and
sources, are numbers (F, ...) or (T, ...)."""
BOUNDS = {"keys": (0, 8), "depth": (0, math.inf)}
"""Least and largest values."""
ATTRIBUTES = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)
"""Classes of what is read of attributes."""
INFINITE = ("distances",)
"""Data sets in which infinity says that there is nothing."""


def frames_per_latent(file: h5py.File) -> int:
    """Return how many frames each latent of a shard shows.

    Raises:
        ValueError: if its settings are not JSON, or say something else than 1 or 4.
    """
    settings = shard_settings(file)
    spec = settings.get("spec", {})
    every = spec.get("frames_per_latent", FRAMES_PER_LATENT) if isinstance(spec, dict) else spec
    if type(every) is not int or every not in (1, FRAMES_PER_LATENT):
        raise ValueError(f"{file.filename}: config: frames_per_latent is {every!r}; 1 and {FRAMES_PER_LATENT} are")
    return every


def shard_settings(file: h5py.File) -> dict[str, Any]:
    """Return the settings that a shard was recorded with.

    Raises:
        ValueError: if they are no JSON.
    """
    told = read_attribute(file, "config", "{}")
    try:
        settings = parse_json(told) if isinstance(told, str) else told
    except ValueError as error:
        raise ValueError(f"{file.filename}: config is not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file.filename}: config is {str(settings)[:80]!r}, not a table")
    return settings


def read_attribute(
    owner: Any,  # a file, group or data set
    name: str,
    default: Any = None,
) -> Any:
    """Return an attribute, or ``default`` if there is none.

    Raises:
        ValueError: if it is neither numbers nor texts; reading others of a damaged file crashes HDF5.
    """
    if name not in owner.attrs:
        return default
    if owner.attrs.get_id(name).get_type().get_class() not in ATTRIBUTES:
        where = f"{owner.file.filename}: {owner.name}"
        raise ValueError(f"{where}: {name} is neither a number nor a text; the file was damaged or edited")
    return owner.attrs[name]


def check_own(path: Path, file: h5py.File) -> None:
    """Refuse a shard that shows what lies elsewhere: reading it would read other files of this machine.

    Raises:
        ValueError: naming the first link, or data set whose values are in other files.
    """
    for group in (file, *(file[name] for name in file if _is_hard(file, name) and isinstance(file[name], h5py.Group))):
        for name in group:
            where = f"{path}: {group.name.rstrip('/')}/{name}"
            if not _is_hard(group, name):
                raise ValueError(f"{where} is a link to something else; shards hold what they show, record it again")
            part = group[name]
            if isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                raise ValueError(f"{where} is stored in other files; shards hold what they show, record it again")


def _is_hard(group: h5py.Group, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def check_group(
    path: Path,
    group: Any,  # of a clip
    every: int,
) -> None:
    """Refuse a clip whose data sets are of another type, shape or size than they may be; nothing is read.

    ``check_own`` comes first.

    Raises:
        ValueError: naming the data set.
    """
    if not isinstance(group, h5py.Group) or "frames" not in group:
        raise ValueError(f"{path}: {group.name} is no clip, it has no frames")
    sizes: dict[str, int] = {}
    for name in ("frames", *(name for name in group if name != "frames")):
        data = group[name]
        where = f"{path}: {group.name}/{name}"
        if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.kind not in "biuf":
            raise ValueError(f"{where} holds no numbers of its own")
        kind, letters = KNOWN.get(name, (data.dtype.kind, ("F", *data.shape[1:])))
        if name == "frames" and data.ndim == 4:
            count = data.shape[0]
            sizes |= {"T": count, "F": (count + every - 1) // every}
            if not count or (count - 1) % every or data.dtype != np.uint8:
                raise ValueError(f"{where} is {data.dtype} {data.shape}; uint8 frames, 1 + {every} F of them, are read")
        if name not in KNOWN and data.ndim and data.shape[0] == sizes["T"]:
            letters = ("T", *data.shape[1:])
        if len(letters) == data.ndim:
            for letter, size in zip(letters, data.shape, strict=True):
                if isinstance(letter, str):
                    sizes.setdefault(letter, size)
        wanted = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in letters)
        if data.dtype.kind != kind or data.shape != wanted:
            raise ValueError(f"{where} is {data.dtype} {data.shape}, expected {_called(kind)} {wanted}")
        declared, stored = math.prod(data.shape) * data.dtype.itemsize, data.id.get_storage_size()
        if declared > MOST_BYTES or declared > max(UNCHECKED_BYTES, MOST_PACKED * stored):
            raise ValueError(f"{where} is said to have {declared} bytes, and {stored} are stored; the file was edited")


def check_values(path: Path, clip: str, values: Mapping[str, Array]) -> None:
    """Refuse what was read of a clip where it is not finite, out of range, or no rigid motion.

    Raises:
        ValueError: naming the data set, and a value that it may not have.
    """
    for name, value in values.items():
        where = f"{path}: {clip}/{name}"
        if value.dtype.kind == "f":
            broken = np.isnan(value) if name in INFINITE else ~np.isfinite(value)
            if broken.any():
                row = np.argwhere(broken)[0].tolist()
                raise ValueError(f"{where} holds {value[tuple(row)]} at {row}; its numbers are finite")
        if name in BOUNDS and value.size:
            low, high = BOUNDS[name]
            if value.min() < low or value.max() > high:
                raise ValueError(f"{where} holds {value.min()} to {value.max()}; {low} to {high:g} are read")
        if name in ("c2w", "c2w_commanded") and not is_rigid(torch.from_numpy(value)):
            bad = next(i for i, pose in enumerate(value) if not is_rigid(torch.from_numpy(pose)))
            raise ValueError(f"{where}: pose {bad} is no rigid motion")


def _called(kind: str) -> str:
    return {"u": "uint8", "i": "whole numbers", "f": "floating-point numbers", "b": "flags"}[kind]
