"""Minari datasets on disk: ``metadata.json`` and one HDF5 file, whose observations hold pictures.

Only what lies in the file itself is read: links to other files are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from ...base.documents import read_table
from ...base.media import read_picture
from ...bodies.vector import ACTION, describe_actions
from ...dynamics.environment import MOST_NUMBERS, ActionPart
from ..columns import check_finite, embedded
from ..schema import BROKEN, Array
from ..spans import Span
from ..video import MAX_SIDE, Frame

TOLD = {"rewards": "reward", "terminations": "terminated", "truncations": "truncated"}
"""Data sets of what happened, by the names of a clip."""
EPISODE = re.compile(r"episode_(0|[1-9][0-9]{0,8})")
"""How groups of episodes are named."""
MOST_BYTES = 2**28
"""Of what is told of an episode's steps, each."""
LEAST_SIDE = 16
"""Pixels below which an array of bytes is no picture, but a map of symbols."""


class Minari:
    """A reader of a folder that Minari calls a data path: ``.../my-data-v0/data``, or the one around it.

    Raises:
        ValueError: naming the file, and the row, that cannot be learned from.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        folder = path / "data" if (path / "data" / "metadata.json").is_file() else path
        told = _read_metadata(folder)
        self.path, self.fps = folder / "main_data.hdf5", 0.0
        self.notes: Sequence[str] = ()
        self.name = "minari:" + str(told.get("dataset_id") or path.resolve().name)
        with _describing(f"{folder}: action_space"):
            self.parts: tuple[ActionPart, ...] = describe_actions(read_space(_json(told, "action_space", folder)))
        with _describing(f"{folder}: observation_space"):
            cameras = find_pictures(_json(told, "observation_space", folder))
        self.camera = _choose(folder, cameras, camera)
        self.height, self.width = cameras[self.camera]
        with _opened(self.path) as file:
            numbers = sorted(int(name[8:]) for name in file if EPISODE.fullmatch(name))
            self.spans: Sequence[Span] = [self._span(file, f"episode_{number}") for number in numbers]

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Read some frames of an episode, decoding those that are held as JPEG."""
        with _opened(self.path) as file:
            rows = _inside(file, self._where(span.episode), self.path)[span.first + first : span.first + stop]
        for number, row in enumerate(rows, start=span.first + first):
            frame = row
            if row.ndim == 1:
                frame = read_picture(row.tobytes(), what=f"{span.name}: frame {number}", most=MAX_SIDE)
            if frame.shape != (self.height, self.width, 3):
                size = f"{frame.shape[1]}x{frame.shape[0]}"
                raise ValueError(f"{span.name}: frame {number} is {size}, others {self.width}x{self.height}")
            yield frame

    def _where(self, episode: int) -> str:
        return f"episode_{episode}/observations" + (f"/{self.camera}" if self.camera else "")

    def _span(self, file: h5py.File, group: str) -> Span:
        """Check an episode; it has one observation more than actions."""
        name, number = f"{self.path}, {group}", int(group.partition("_")[2])
        frames = _inside(file, self._where(number), self.path)
        if frames.dtype != np.uint8 and h5py.check_vlen_dtype(frames.dtype) != np.uint8:
            raise ValueError(f"{name}: pictures are {frames.dtype}; uint8 is read")
        if frames.ndim not in (1, 2) and frames.shape[1:] != (self.height, self.width, 3):
            size = f"{frames.shape[2]}x{frames.shape[1]}"
            raise ValueError(f"{name}: frames of {size}, observation_space says {self.width}x{self.height}")
        actions = {part.name: self._actions(file, group, part) for part in self.parts}
        count = len(next(iter(actions.values())))
        told = {}
        for theirs, ours in TOLD.items():
            values = _numbers(_inside(file, f"{group}/{theirs}", self.path), name, ())
            check_finite(values, what=name, name=theirs)
            told[ours] = values.astype(np.float32 if ours == "reward" else bool)
        lengths = {**{n or "actions": len(x) for n, x in actions.items()}, **{n: len(x) for n, x in told.items()}}
        wrong = [f"{n} {length}" for n, length in lengths.items() if length != count]
        if wrong or len(frames) != count + 1:
            raise ValueError(
                f"{name}: {len(frames)} observations and {count} actions{', ' * bool(wrong)}{', '.join(wrong)}; there "
                "is one observation more than actions, rewards and ends"
            )
        if not count:
            raise ValueError(f"{name}: no actions, so there is nothing to learn from it; leave it out")
        over = np.flatnonzero(told["terminated"][:-1] | told["truncated"][:-1])
        if len(over):
            raise ValueError(f"{name}: row {over[0]} ends the episode, and it goes on")
        return Span(name, number, 0, count + 1, {ACTION: embedded(self.parts, actions), **told})

    def _actions(self, file: h5py.File, group: str, part: ActionPart) -> Array:
        """Return the actions of a part, within its space."""
        where = f"{group}/actions" + (f"/{part.name}" if part.name else "")
        what = f"{self.path}, {group}"
        values = _numbers(_inside(file, where, self.path), what, part.shape)
        check_finite(values, what=what, name=where, whole=bool(part.counts))
        if part.counts:
            least, flat = np.array(part.least), values.reshape(len(values), math.prod(part.shape))
            wrong = np.flatnonzero(((flat < least) | (flat >= least + np.array(part.counts))).any(1))
            if len(wrong):
                raise ValueError(f"{what}: row {wrong[0]}: {where} is {values[wrong[0]]}, outside of its space")
        return values


def _read_metadata(folder: Path) -> dict[str, Any]:
    file = folder / "metadata.json"
    if not file.is_file():
        raise ValueError(f"{folder} is no Minari dataset: there is no metadata.json in it, or in data/")
    told = read_table(file)
    if told.get("data_format", "hdf5") != "hdf5":
        raise ValueError(f"{file}: data_format is not hdf5, which alone is read; make the dataset with hdf5")
    return told


def _json(told: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """Return the description of a space, in whose bounds there may be infinity."""
    try:
        found = json.loads(told[key])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"{folder}/metadata.json: no {key}; give it when the dataset is made") from None
    if not isinstance(found, dict) or "type" not in found:
        raise ValueError(f"{folder}/metadata.json: {key} describes no space")
    return found


@contextmanager
def _describing(where: str) -> Iterator[None]:
    """Name the description that is none, whatever is wrong with it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{where}: {said if isinstance(error, ValueError) else f'no space ({said})'}") from None


def read_space(told: Mapping[str, Any]) -> Any:
    """Return the space of Gymnasium's that Minari describes; those that cannot be embedded as text, refused later.

    Raises:
        ValueError, KeyError, TypeError, ...: if it is none; nothing so large as it may say is made.
    """
    kind = told["type"]
    if kind == "Discrete":
        return spaces.Discrete(_whole(told["n"]), start=_whole(told.get("start", 0)))
    if kind == "MultiDiscrete":
        start = _whole(told["start"]) if told.get("start") is not None else None
        return spaces.MultiDiscrete(_whole(told["nvec"]), dtype=np.dtype(told["dtype"]).type, start=start)
    if kind == "MultiBinary":
        return spaces.MultiBinary(_whole(told["n"]))
    if kind == "Box":
        shape, dtype = tuple(map(_whole, told["shape"])), np.dtype(told["dtype"]).type
        if not 0 <= math.prod(shape) <= MOST_NUMBERS:
            raise ValueError(f"a Box of shape {str(shape)[:80]}; up to {MOST_NUMBERS} numbers are read")
        low, high = np.array(told["low"]), np.array(told["high"])
        return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype)
    if kind == "Dict":
        return spaces.Dict({name: read_space(one) for name, one in told["subspaces"].items()})
    raise ValueError(
        f"actions of {str(kind)[:80]} cannot be embedded; Discrete, MultiDiscrete, MultiBinary, Box or Dict can"
    )


def _whole(told: Any) -> Any:
    """Return a whole number, or lists of some, as JSON has it; a TypeError of anything else, flags too."""
    if isinstance(told, list):
        return [_whole(one) for one in told]
    if type(told) is not int:
        raise TypeError(f"{str(told)[:80]!r} is no whole number")
    return told


def find_pictures(told: Mapping[str, Any], at: str = "") -> dict[str, tuple[int, int]]:
    """Return height and width of what are pictures in a space of observations, by where they are."""
    if told["type"] == "Dict":
        return {
            name: size
            for key, one in told["subspaces"].items()
            for name, size in find_pictures(one, f"{at}/{key}" if at else key).items()
        }
    shape: Any = told.get("shape") or ()
    fits = told["type"] == "Box" and told.get("dtype") == "uint8" and len(shape) == 3 and shape[2] == 3
    height, width = (_whole(shape[0]), _whole(shape[1])) if fits else (0, 0)
    return {at: (height, width)} if LEAST_SIDE <= min(height, width) <= max(height, width) <= MAX_SIDE else {}


def _choose(folder: Path, cameras: Mapping[str, Any], asked: str) -> str:
    if not cameras:
        raise ValueError(
            f"{folder}: no observation is a picture, uint8 (H, W, 3) of {LEAST_SIDE} pixels or more a side"
        )
    if asked and asked not in cameras:
        raise ValueError(f"{folder}: no observation {asked!r} is a picture; {', '.join(cameras)} are")
    if not asked and len(cameras) > 1:
        raise ValueError(f"{folder}: {len(cameras)} pictures; choose one with --camera: {', '.join(cameras)}")
    return asked or next(iter(cameras))


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file; whatever is found to be broken in it names it."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BROKEN as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: cannot be read ({said}); is the file whole?") from None


def _numbers(stored: h5py.Dataset, what: str, shape: tuple[int, ...]) -> Array:
    """Return numbers of a row each, (rows, *shape), before which it is known how many they are."""
    if stored.dtype.kind not in "biuf" or not stored.shape or stored.shape[1:] != shape:
        raise ValueError(
            f"{what}: {stored.name} is {stored.dtype} {stored.shape}; numbers of shape {shape} a row are read"
        )
    if stored.nbytes > MOST_BYTES:
        raise ValueError(f"{what}: {stored.name} has {stored.nbytes} bytes; up to {MOST_BYTES} are read")
    values: Array = stored[()]
    return values


def _inside(file: h5py.File, where: str, path: Path) -> h5py.Dataset:
    """Return a data set that lies in this file.

    Raises:
        ValueError: if it is not there, or lies in another file.
    """
    group: Any = file
    for name in where.split("/"):
        if not isinstance(group, h5py.Group) or name not in group:
            raise ValueError(f"{path}: no {where} in it")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path}: {where} is a link; only what the file itself holds is read")
        group = group[name]
    if not isinstance(group, h5py.Dataset) or group.external or group.is_virtual:
        raise ValueError(f"{path}: {where} is no data set of this file's own; only what it holds is read")
    return group
