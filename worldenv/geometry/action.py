"""Actions and the camera motion they command.

The dual action of WorldPlay (paper 3.2): a discrete key label and a continuous camera motion say the same thing.
A label is ``9 * translation + rotation``; both codes are listed in TRANSLATIONS and ROTATIONS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from .pose import compose, look, relative, rotation_pitch, rotation_yaw, yaw_pitch

Motion = Literal["walk", "fly"]
ArrayT = TypeVar("ArrayT", Tensor, "np.ndarray[tuple[int, ...], np.dtype[np.floating]]")

TRANSLATIONS = (
    "none",
    "forward",
    "back",
    "right",
    "left",
    "forward+right",
    "forward+left",
    "back+right",
    "back+left",
)
ROTATIONS = ("none", "right", "left", "up", "down", "right+up", "right+down", "left+up", "left+down")
NUM_LABELS = len(TRANSLATIONS) * len(ROTATIONS)

# (forward, right) of each translation code and (yaw right, pitch up) of each rotation code.
TRANSLATION_AXES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
ROTATION_AXES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))

# action_mode="basic": forward, back, turn right, turn left, as (translation, rotation).
BASIC_KEYS = ((1, 0), (2, 0), (0, 1), (0, 2))
STAND_STILL = (0, 0)  # action_mode="basic5" has it before them


@dataclass(frozen=True, kw_only=True)
class ActionSteps:
    """How far each key moves the camera in one latent."""

    move: float = 0.25
    """Metres per latent along each pressed axis."""
    turn_deg: float = 11.25
    """Yaw in degrees per latent."""
    pitch_deg: float = 3.75
    """Pitch in degrees per latent."""
    motion: Motion = "walk"
    """``walk``: yaw about the vertical, translation in the horizontal plane; ``fly``: both in the camera's own axes."""
    pitch_limit_deg: float = 15.0
    """Pitch stays within +- this angle (``walk`` only)."""

    def __post_init__(self) -> None:
        for name in ("move", "turn_deg", "pitch_deg", "pitch_limit_deg"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be positive")

    def units(self) -> Tensor:
        """Return the size of each ``camera`` axis (5,): forward, right, up in metres, yaw, pitch in radians."""
        turn, pitch = math.radians(self.turn_deg), math.radians(self.pitch_deg)
        return torch.tensor([self.move, self.move, self.move, turn, pitch], dtype=torch.float64)


def keys_to_camera(
    keys: Tensor,  # (..., 2) int: translation code, rotation code
) -> Tensor:
    """Map key codes to the ``camera`` action they stand for, in units of the step; shape (..., 5) float64."""
    translation = torch.tensor(TRANSLATION_AXES, dtype=torch.float64, device=keys.device)[keys[..., 0]]
    rotation = torch.tensor(ROTATION_AXES, dtype=torch.float64, device=keys.device)[keys[..., 1]]
    up = torch.zeros_like(translation[..., :1])
    return torch.cat([translation, up, rotation], -1)


def keys_to_label(
    keys: Tensor,  # (..., 2) int
) -> Tensor:
    """Return the label 9 * translation + rotation of key codes; shape (...)."""
    return 9 * keys[..., 0] + keys[..., 1]


def label_to_keys(
    label: Tensor,  # (...) int
) -> Tensor:
    """Split labels into key codes; shape (..., 2)."""
    return torch.stack([label // 9, label % 9], -1)


def move_camera(
    c2w: Tensor,  # (..., 4, 4)
    delta: Tensor,  # (..., 5): forward, right, up in metres, yaw right, pitch up in radians
    *,
    motion: Motion = "fly",
    pitch_limit: float = math.pi / 2,
) -> Tensor:
    """Apply one camera action: rotate first, then translate along the new axes; shape (..., 4, 4).

    ``fly`` composes in the camera's own frame (WorldPlay's rule); ``walk`` keeps the camera upright, moves in the
    horizontal plane and clamps the pitch to +- ``pitch_limit`` radians.
    """
    forward, right, up, yaw, pitch = delta.unbind(-1)
    if motion == "fly":
        rotation = c2w[..., :3, :3] @ rotation_yaw(yaw) @ rotation_pitch(pitch)
        heading = rotation
    else:
        yaw_now, pitch_now = yaw_pitch(c2w)
        pitch = (pitch_now + pitch).clamp(-pitch_limit, pitch_limit)
        rotation = look(torch.zeros_like(c2w[..., :3, 3]), yaw_now + yaw, pitch)[..., :3, :3]
        heading = rotation_yaw(yaw_now + yaw)
    offset = heading @ torch.stack([right, -up, forward], -1)[..., None]
    return compose(rotation, c2w[..., :3, 3] + offset[..., 0])


def camera_to_c2w(
    camera: Tensor,  # (..., F, 5) in units of the step
    c2w_start: Tensor,  # (..., 4, 4)
    steps: ActionSteps,
) -> Tensor:
    """Integrate ``camera`` actions, one per latent, from a start pose; shape (..., F, 4, 4), the pose after each."""
    delta = camera.to(c2w_start.dtype) * steps.units().to(c2w_start)
    limit = math.radians(steps.pitch_limit_deg)
    poses, c2w = [], c2w_start
    for action in delta.unbind(-2):
        c2w = move_camera(c2w, action, motion=steps.motion, pitch_limit=limit)
        poses.append(c2w)
    return torch.stack(poses, -3)


def keys_to_c2w(keys: ArrayT, c2w_start: ArrayT, *, move: float, turn_deg: float) -> ArrayT:
    """Integrate key codes into poses by WorldPlay's rule: rotate locally, then translate along the new axes.

    Args:
        keys: (..., F, 2) integer codes, one pair per latent.
        c2w_start: (..., 4, 4) pose before the first key.
        move: metres per latent on each pressed axis (a diagonal moves ``move`` on both).
        turn_deg: yaw and pitch in degrees per latent.

    Returns:
        (..., F, 4, 4), the pose after each key, of the kind given (array or tensor).

    Raises:
        ValueError: if a code is outside 0..8.
    """
    codes = torch.as_tensor(keys)
    if codes.numel() and (codes.min() < 0 or codes.max() > 8):
        raise ValueError(f"key codes must be 0..8, got {int(codes.min())}..{int(codes.max())}; see TRANSLATIONS")
    steps = ActionSteps(move=move, turn_deg=turn_deg, pitch_deg=turn_deg, motion="fly")
    c2w = camera_to_c2w(keys_to_camera(codes.long()), torch.as_tensor(c2w_start), steps)
    return c2w.numpy() if isinstance(keys, np.ndarray) else c2w


def c2w_to_keys(
    c2w: ArrayT, *, move_threshold: float = 1e-4, turn_threshold_deg: float = 0.05, axes: Literal["new", "old"] = "new"
) -> ArrayT:
    """Label a camera path with key codes, the inverse of ``keys_to_c2w`` (supplement A, last paragraph).

    A translation key is on where the motion is longer than ``move_threshold`` and within 60 degrees of its axis, a
    rotation key where the angle exceeds ``turn_threshold_deg``. Vertical motion has no label.

    Args:
        c2w: (..., F + 1, 4, 4) poses, start first.
        move_threshold: metres.
        turn_threshold_deg: degrees.
        axes: whether a translation is read in the camera's axes after the turn, as keys move it, or before it, as
            WorldPlay's release does; they differ where a translation is near 60 degrees from an axis.

    Returns:
        (..., F, 2) codes of the motion into each pose after the first, int64.
    """
    poses = torch.as_tensor(c2w)
    motion = relative(poses[..., :-1, :, :], poses[..., 1:, :, :])
    offset = motion[..., :3, 3]
    if axes == "new":
        offset = (motion[..., :3, :3].mT @ offset[..., None])[..., 0]
    distance = offset.norm(dim=-1)
    cosine = offset / distance.clamp(min=1e-12)[..., None]
    moving = distance > move_threshold
    forward = _sign(cosine[..., 2], 0.5 - 1e-9) * moving
    right = _sign(cosine[..., 0], 0.5 - 1e-9) * moving
    yaw, pitch = yaw_pitch(motion)
    threshold = math.radians(turn_threshold_deg)
    turn, look_up = _sign(yaw, threshold), _sign(pitch, threshold)
    keys = torch.stack([_code(forward, right, TRANSLATION_AXES), _code(turn, look_up, ROTATION_AXES)], -1)
    return keys.numpy() if isinstance(c2w, np.ndarray) else keys


def _sign(value: Tensor, threshold: float) -> Tensor:
    return (value > threshold).long() - (value < -threshold).long()


def _code(first: Tensor, second: Tensor, axes: tuple[tuple[int, int], ...]) -> Tensor:
    table = torch.zeros(3, 3, dtype=torch.long)
    for code, (a, b) in enumerate(axes):
        table[a + 1, b + 1] = code
    return table.to(first.device)[first + 1, second + 1]
