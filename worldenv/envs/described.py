"""Environments as plain values, which go over a wire: spaces and what they tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from ..bodies.hand_keypoints import DescribedHands


def describe_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return a space as plain values, from which ``read_space`` makes an equal one."""
    if isinstance(space, spaces.Dict):
        return {"kind": "dict", "parts": {name: describe_space(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        counts, least = space.nvec.tolist(), space.start.tolist()
        return {"kind": "multi_discrete", "nvec": counts, "start": least, "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "multi_binary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        low, high = _bound(space.low), _bound(space.high)
        kind = "hands" if isinstance(space, DescribedHands) else "box"
        return {"kind": kind, "shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    raise ValueError(f"{space} cannot be described; use Discrete, MultiDiscrete, MultiBinary, Box or a Dict of these")


def _bound(bound: np.ndarray[Any, Any]) -> Any:
    """Return a bound as one number where all are equal, else as lists."""
    first = bound.flat[0] if bound.size else bound.dtype.type(0)
    return first.item() if bool((bound == first).all()) else bound.tolist()


def read_space(table: Mapping[str, Any]) -> spaces.Space[Any]:
    """Make the space that ``describe_space`` described."""
    kind, dtype = table["kind"], np.dtype(table.get("dtype", "int64")).type
    if kind == "dict":
        return spaces.Dict({name: read_space(part) for name, part in table["parts"].items()})
    if kind == "discrete":
        return spaces.Discrete(table["n"], start=table["start"], dtype=dtype)
    if kind == "multi_discrete":
        return spaces.MultiDiscrete(np.array(table["nvec"]), dtype=dtype, start=np.array(table["start"]))
    if kind == "multi_binary":
        return spaces.MultiBinary(table["shape"] if len(table["shape"]) != 1 else table["shape"][0])
    shape = tuple(table["shape"])
    low, high = (np.broadcast_to(np.asarray(table[side], dtype), shape).copy() for side in ("low", "high"))
    return (DescribedHands if kind == "hands" else spaces.Box)(low, high, shape, dtype)
