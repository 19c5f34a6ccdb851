"""Observation modes as Gymnasium spaces, and actions checked against theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..base.said import said
from ..dynamics.signals import Signal
from ..dynamics.spec import WorldSpec
from .options import read_array

OBS_MODES = ("image", "stack", "chunk", "dict", "latent")


def check_actions(
    action: Any, space: spaces.Space[Any], num_envs: int, *, clip: bool, names: Sequence[str] = ()
) -> Tensor | dict[str, Tensor]:
    """Turn a batch of actions into a tensor (B, ...), int64 or float64, or a dictionary of such.

    ``names`` are of the last axis, for errors.

    Raises:
        ValueError: if the shape or type is wrong, a value is NaN or out of range (beyond 1e-5 for floats).
    """
    if not isinstance(space, spaces.Dict):
        return _check_array(action, space, num_envs, clip=clip, names=names)
    if not isinstance(action, Mapping) or set(action) != set(space.spaces):
        found = ", ".join(map(str, action)) if isinstance(action, Mapping) else type(action).__name__
        raise ValueError(f"action is {found}, expected a dictionary of {', '.join(space.spaces)}")
    parts = {}
    for name, part in space.spaces.items():
        try:
            parts[name] = _check_array(action[name], part, num_envs, clip=clip)
        except ValueError as error:
            raise ValueError(f"action[{name!r}]: {error}") from None
    return parts


def _check_array(
    action: Any, space: spaces.Space[Any], num_envs: int, *, clip: bool, names: Sequence[str] = ()
) -> Tensor:
    array = read_array(action, "action")
    wanted = (num_envs, *(space.shape or ()))
    if array.shape != wanted:
        raise ValueError(f"action has shape {array.shape}, expected {wanted}: one row per env of {said(space)}")
    if isinstance(space, spaces.Box):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"action has dtype {array.dtype}; {said(space)} takes numbers")
        if not np.isfinite(array).all():
            raise ValueError("action holds NaN or infinity; check the policy's output")
        values = array.astype(np.float64)
        if clip:
            values = np.clip(values, space.low, space.high)
        elif (values < space.low - 1e-5).any() or (values > space.high + 1e-5).any():
            place = np.unravel_index(np.maximum(values - space.high, space.low - values).argmax(), values.shape)
            low, high = space.low[place[1:]], space.high[place[1:]]
            called = f" of {names[int(place[-1])]!r}" if names else ""
            raise ValueError(
                f"action {values[place]:g}{called} is outside [{low:g}, {high:g}]; scale it, or pass clip_actions=True"
            )
        return torch.from_numpy(np.clip(values, space.low, space.high))
    mixed = isinstance(action, list | tuple) and any(isinstance(one, bool) for one in np.asarray(action, object).flat)
    if mixed or not np.issubdtype(array.dtype, np.integer):  # a flag among whole numbers becomes one in an array
        raise ValueError(f"action has dtype {'bool' if mixed else array.dtype}; {said(space)} takes integers")
    values = array.astype(np.int64)
    kind = space.dtype if space.dtype is not None else np.dtype(np.int64)
    if not all(space.contains(one.astype(kind) if space.shape else int(one)) for one in values):
        raise ValueError(f"action {array.tolist()} is outside {said(space)}")
    return torch.from_numpy(values)


def observation_space(
    mode: str,
    spec: WorldSpec,
    *,
    obs_keys: Sequence[str],
    stack: int,
    latent_shape: tuple[int, int, int] | None,
    shows: Mapping[str, Signal] = MappingProxyType({}),
) -> spaces.Space[Any]:
    """Return the observation space of one env; ``shows`` is what its task adds to ``dict`` observations.

    Raises:
        ValueError: on an unknown mode or key, or ``latent`` where there are no latents.
    """
    height, width = spec.height, spec.width
    image = spaces.Box(0, 255, (height, width, 3), np.uint8)
    if mode == "image":
        return image
    if mode == "stack":
        return spaces.Box(0, 255, (height, width, 3 * stack), np.uint8)
    if mode == "chunk":
        return spaces.Box(0, 255, (spec.chunk_frames, height, width, 3), np.uint8)
    if mode == "latent":
        if latent_shape is None:
            raise ValueError("obs_mode='latent' needs a generated world; a simulator has no latents")
        return spaces.Box(-math.inf, math.inf, (spec.chunk_latents, *latent_shape), np.float32)
    if mode != "dict":
        raise ValueError(f"unknown obs_mode {mode!r}; choose one of {', '.join(OBS_MODES)}")
    known = {"image": image, **{name: _box(signal, spec) for name, signal in {**given(spec), **shows}.items()}}
    unknown = [key for key in obs_keys if key not in known]
    if unknown or not obs_keys:
        raise ValueError(f"obs_keys={list(obs_keys)}: this environment offers {', '.join(known)}")
    return spaces.Dict({key: known[key] for key in obs_keys})


def given(spec: WorldSpec) -> dict[str, Signal]:
    """Return what ``dict`` observations can show of the present moment: what the world gives, float64 as float32."""
    return {
        name: replace(signal, dtype="float32") if signal.dtype == "float64" else signal
        for name, signal in spec.gives.items()
        if signal.rate != "frame"
    }


def _box(signal: Signal, spec: WorldSpec) -> spaces.Box:
    (low, high), sides = signal.bounds, iter((spec.height, spec.width))
    shape = tuple(next(sides) if size == -1 else size for size in signal.shape)
    return spaces.Box(low, high, shape, np.dtype(signal.dtype).type)
