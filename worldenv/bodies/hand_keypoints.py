"""A hand described by its keypoints, as EgoDex describes hands: wrist, its rotation, five finger tips; and the joints.

24 numbers for one hand: position of the wrist, the first two columns of its rotation (Zhou et al. 2019), positions of
the tips from thumb to little finger, metres in the table's frame. Joints of fingers follow by damped least squares
within their ranges.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor
from torch.nn import functional as F

from ..geometry.kinematics import forward_kinematics, keypoints
from .hand_model import CLOSED, FINGERS, HAND, NUM_WRIST, OPEN

NUM_KEYPOINT_NUMBERS = 9 + 3 * len(FINGERS)
TIPS = [i for i, point in enumerate(HAND.keypoints) if point.name.endswith("_end")]
JOINTS_PER_FINGER = (len(HAND.joints) - NUM_WRIST) // len(FINGERS)
NAMES = (
    *("wrist_x", "wrist_y", "wrist_z"),
    *(f"rotation_{axis}_{of}" for of in ("x", "y") for axis in "xyz"),
    *(f"{finger.name}_{axis}" for finger in FINGERS for axis in "xyz"),
)
REACHED = 0.002
"""Metres within which a tip counts as reached."""
STEPS, DAMPING, NUDGE = 40, 1e-5, 1e-5


def describe_joints(
    joints: Tensor,  # (..., 26)
) -> Tensor:
    """Return the description of a hand whose joints are known, (..., 24)."""
    wrist = forward_kinematics(HAND, joints)[..., 0, :, :]
    tips = keypoints(HAND, joints)[..., TIPS, :]
    return torch.cat([wrist[..., :3, 3], wrist[..., :3, :2].mT.flatten(-2), tips.flatten(-2)], -1)


class DescribedHands(spaces.Box):
    """Descriptions, (..., 24); those that are drawn are of hands that there are: most in the box are out of reach."""

    def sample(self, mask: None = None, probability: None = None) -> npt.NDArray[Any]:
        """Draw joints within their ranges, and describe them."""
        least, most = HAND.limits.numpy()
        joints = self.np_random.uniform(least, most, (*self.shape[:-1], len(HAND.joints)))
        return describe_joints(torch.from_numpy(joints)).numpy().clip(self.low, self.high).astype(np.float32)


@batch_space.register(DescribedHands)
def _batch(space: DescribedHands, n: int = 1) -> DescribedHands:
    low, high = (np.repeat(bound[None], n, 0) for bound in (space.low, space.high))
    return DescribedHands(low, high, dtype=np.float32, seed=deepcopy(space.np_random))


def joints_of(
    described: Tensor,  # (B, 24)
    near: Tensor,  # (B, 26) joints to begin the search at
) -> Tensor:
    """Return joints whose hand is so described, (B, 26) float64.

    Raises:
        ValueError: if the rotation is none, the wrist would leave its range, or a tip is out of reach, naming it.
    """
    described, near = described.double(), near.double()
    wrist = torch.cat([described[:, :3], _wrist_angles(described[:, 3:9])], 1)
    low, high = HAND.limits
    HAND.check(torch.cat([wrist, (low + high)[NUM_WRIST:].expand(len(wrist), -1) / 2], 1), what="the action's wrist")
    goals, best, error = described[:, 9:].unflatten(1, (-1, 3)), None, None
    for start in (near[:, NUM_WRIST:], OPEN.expand(len(near), -1), CLOSED.expand(len(near), -1)):
        found = _search(torch.cat([wrist, start], 1), goals)
        off = (_tips(found) - goals).norm(dim=-1)  # (B, fingers)
        if best is None or error is None:
            best, error = found, off
        else:  # finger by finger
            better = (off < error).repeat_interleave(JOINTS_PER_FINGER, 1)
            best = torch.cat([wrist, torch.where(better, found[:, NUM_WRIST:], best[:, NUM_WRIST:])], 1)
            error = torch.minimum(off, error)
        if bool((error < REACHED).all()):
            break
    assert best is not None
    assert error is not None
    if bool((error >= REACHED).any()):
        row, finger = (int(i) for i in (error >= REACHED).nonzero()[0])
        raise ValueError(
            f"action: the tip of {FINGERS[finger].name!r} is {1000 * float(error[row, finger]):.0f} mm out of reach in "
            f"row {row}; move it nearer to the hand, or the hand to it"
        )
    return best


def _wrist_angles(columns: Tensor) -> Tensor:
    """Return yaw, pitch and roll of rotations given by their first two columns (B, 6), (B, 3)."""
    first, second = columns[:, :3], columns[:, 3:]
    across = torch.linalg.cross(first, second)
    flat = (across.norm(dim=-1) < 0.1).nonzero()[:, 0].tolist()
    if flat:
        raise ValueError(
            f"action: the rotation's columns of row {flat[0]} are no two directions; pass two that are orthogonal"
        )
    x = F.normalize(first, dim=-1)
    z = F.normalize(across, dim=-1)
    y = torch.linalg.cross(z, x)
    pitch = torch.asin((-x[:, 2]).clamp(-1, 1))
    return torch.stack([torch.atan2(x[:, 1], x[:, 0]), pitch, torch.atan2(y[:, 2], z[:, 2])], 1)


def _tips(joints: Tensor) -> Tensor:
    return keypoints(HAND, joints)[..., TIPS, :]


def _search(
    joints: Tensor,  # (B, 26)
    goals: Tensor,  # (B, fingers, 3)
) -> Tensor:
    """Move the fingers' joints, each finger's on its own, until their tips are where they are to be, or as near."""
    low, high = HAND.limits
    nudges = torch.zeros(JOINTS_PER_FINGER, len(HAND.joints), dtype=torch.float64)
    for k in range(JOINTS_PER_FINGER):  # the k-th joint of all fingers at once: none moves another's tip
        nudges[k, NUM_WRIST + k :: JOINTS_PER_FINGER] = NUDGE
    eye = DAMPING * torch.eye(3, dtype=torch.float64)
    for _ in range(STEPS):
        here = _tips(joints)
        off = goals - here
        if bool((off.norm(dim=-1) < REACHED / 10).all()):
            break
        slope = ((_tips(joints[:, None] + nudges) - here[:, None]) / NUDGE).permute(0, 2, 3, 1)  # (B, fingers, 3, 4)
        step = slope.mT @ torch.linalg.solve(slope @ slope.mT + eye, off[..., None])
        moved = joints[:, NUM_WRIST:] + step[..., 0].clamp(-0.5, 0.5).flatten(1)
        joints = torch.cat([joints[:, :NUM_WRIST], moved.clamp(low[NUM_WRIST:], high[NUM_WRIST:])], 1)
    return joints
