"""Action and observation modes as Gymnasium spaces, and actions as commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..dynamics.protocol import Actions
from ..dynamics.signals import Signal
from ..dynamics.spec import WorldSpec
from ..geometry.action import BASIC_KEYS, STAND_STILL, camera_to_c2w, keys_to_camera, label_to_keys

OBS_MODES = ("image", "stack", "chunk", "dict", "latent")


@dataclass(frozen=True)
class ActionMode:
    """A way of saying what to do in one chunk."""

    space: Callable[[int], spaces.Space[Any]]
    """Builds the space of one env from the number of latents per chunk."""
    to_keys: Callable[[Tensor, int], Tensor] | None = None
    """Maps (B, ...) integers to key codes (B, F, 2)."""
    to_camera: Callable[[Tensor, int], Tensor] | None = None
    """Maps (B, ...) floats to ``camera`` actions (B, F, 5) in units of the step."""


def _hold(keys: Tensor, num_latents: int) -> Tensor:
    return keys[:, None].expand(-1, num_latents, -1)


def _box(size: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


ACTION_MODES: dict[str, ActionMode] = {
    "basic": ActionMode(
        lambda n: spaces.Discrete(len(BASIC_KEYS)),
        to_keys=lambda a, n: _hold(torch.tensor(BASIC_KEYS)[a], n),
    ),
    "basic5": ActionMode(
        lambda n: spaces.Discrete(1 + len(BASIC_KEYS)),
        to_keys=lambda a, n: _hold(torch.tensor((STAND_STILL, *BASIC_KEYS))[a], n),
    ),
    "discrete": ActionMode(lambda n: spaces.Discrete(81), to_keys=lambda a, n: _hold(label_to_keys(a), n)),
    "keys": ActionMode(lambda n: spaces.MultiDiscrete([9, 9]), to_keys=_hold),
    "keys_per_latent": ActionMode(
        lambda n: spaces.MultiDiscrete([9, 9] * n), to_keys=lambda a, n: a.unflatten(-1, (n, 2))
    ),
    "camera": ActionMode(lambda n: _box(5), to_camera=_hold),
    "camera_per_latent": ActionMode(lambda n: _box(5 * n), to_camera=lambda a, n: a.unflatten(-1, (n, 5))),
}


def action_space(mode: str, num_latents: int) -> spaces.Space[Any]:
    """Return the action space of one env.

    Raises:
        ValueError: on an unknown mode.
    """
    if mode not in ACTION_MODES:
        raise ValueError(f"unknown action_mode {mode!r}; choose one of {', '.join(ACTION_MODES)}")
    return ACTION_MODES[mode].space(num_latents)


def check_actions(action: Any, space: spaces.Space[Any], num_envs: int, *, clip: bool) -> Tensor:
    """Turn a batch of actions into a tensor (B, ...), int64 or float64.

    Raises:
        ValueError: if the shape or type is wrong, a value is NaN or out of range (beyond 1e-5 for floats).
    """
    array = action.detach().cpu().numpy() if isinstance(action, Tensor) else np.asarray(action)
    wanted = (num_envs, *(space.shape or ()))
    if array.shape != wanted:
        raise ValueError(f"action has shape {array.shape}, expected {wanted}: one row per env of {space}")
    if isinstance(space, spaces.Box):
        if not np.isfinite(array).all():
            raise ValueError("action holds NaN or infinity; check the policy's output")
        values = array.astype(np.float64)
        if clip:
            values = np.clip(values, space.low, space.high)
        elif (values < space.low - 1e-5).any() or (values > space.high + 1e-5).any():
            worst = values.ravel()[np.abs(values).argmax()]
            raise ValueError(f"action {worst:g} is outside [-1, 1]; scale it, or pass clip_actions=True")
        return torch.from_numpy(np.clip(values, space.low, space.high))
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"action has dtype {array.dtype}; {space} takes integers")
    high = np.asarray(space.nvec if isinstance(space, spaces.MultiDiscrete) else getattr(space, "n"))  # noqa: B009
    if (array < 0).any() or (array >= high).any():
        raise ValueError(f"action {array.tolist()} is outside {space}")
    return torch.from_numpy(array.astype(np.int64))


def command(
    action: Tensor,  # (B, ...) checked
    mode: str,
    c2w: Tensor,  # (B, 4, 4) where each env is
    spec: WorldSpec,
) -> Actions:
    """Turn checked actions into key codes and commanded poses for one chunk.

    Keys become the motion the world gives them; camera actions keep their size and get the label of their motion.
    """
    how, n = ACTION_MODES[mode], spec.chunk_latents
    if how.to_keys is not None:
        keys = how.to_keys(action, n)
        return Actions(keys, camera_to_c2w(keys_to_camera(keys), c2w, spec.steps))
    assert how.to_camera is not None
    poses = camera_to_c2w(how.to_camera(action, n), c2w, spec.steps)
    return Actions(spec.keys_along(torch.cat([c2w[:, None], poses], 1)), poses)


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
    known: dict[str, spaces.Space[Any]] = {
        "image": image,
        "c2w": spaces.Box(-math.inf, math.inf, (4, 4), np.float32),
        **{key: spaces.Box(s.low, s.high, s.shape, np.dtype(s.dtype).type) for key, s in shows.items()},
    }
    unknown = [key for key in obs_keys if key not in known]
    if unknown or not obs_keys:
        raise ValueError(f"obs_keys={list(obs_keys)}: this environment offers {', '.join(known)}")
    return spaces.Dict({key: known[key] for key in obs_keys})
