"""The camera that walks: keys held for a chunk or per latent, or motion in numbers.

Dual action (WorldPlay 3.2): every command has both halves, key codes for the timestep embedding and poses for PRoPE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..dynamics.signals import C2W, KEYS, Signal, Signals, Track
from ..dynamics.spec import WorldSpec
from ..geometry.action import BASIC_KEYS, STAND_STILL, ActionSteps, camera_to_c2w, keys_to_camera, label_to_keys


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

# pygame key codes of w, s, d, a for ``gymnasium.utils.play``; basic actions in the same order. Without a key it takes
# action 0, which goes forward in ``basic`` and stands still in ``basic5``.
_KEYBOARD: dict[str, dict[tuple[int, ...], int]] = {
    "basic": {(ord(key),): action for action, key in enumerate("wsda")},
    "basic5": {(ord(key),): action for action, key in enumerate("wsda", start=1)},
}


class Camera:
    """Walks and looks around; see ``Body``."""

    takes: ClassVar[Mapping[str, Signal]] = {"keys": KEYS, "c2w": C2W}
    modes: ClassVar[tuple[str, ...]] = tuple(ACTION_MODES)

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the action space of one env."""
        return ACTION_MODES[mode].space(num_latents)

    def command(self, action: Tensor, mode: str, present: Signals, spec: WorldSpec) -> Track:
        """Return key codes and poses.

        Keys become the motion the world gives them; camera actions keep their size and get the label of their motion.
        """
        how, c2w = ACTION_MODES[mode], present["c2w"]
        if how.to_keys is not None:
            return press(how.to_keys(action, spec.chunk_latents), c2w, spec.steps)
        assert how.to_camera is not None
        poses = camera_to_c2w(how.to_camera(action, spec.chunk_latents), c2w, spec.steps)
        return Track(keys=spec.keys_along(torch.cat([c2w[:, None], poses], 1)), c2w=poses)

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        """Return w, s, d, a of ``basic5`` or ``basic``."""
        return _KEYBOARD.get(mode, {})


def press(
    keys: Tensor,  # (B, F, 2) int64
    c2w: Tensor,  # (B, 4, 4) where each env is
    steps: ActionSteps,
) -> Track:
    """Return the commands of held keys: their codes, and the poses that they lead to."""
    return Track(keys=keys, c2w=camera_to_c2w(keys_to_camera(keys), c2w, steps))
