"""The hand as a body: how the wrist moves and how far the hand closes, joint targets, or keypoints to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec
from ..geometry.camera import Pinhole, intrinsics
from .hand_keypoints import NAMES, DescribedHands, joints_of
from .hand_model import FINGERS, HAND, HEAD, HEAD_FOV_DEG, NUM_JOINTS, NUM_WRIST, grasp
from .robot import RobotBody, per_latent

JOINTS = Signal(shape=(NUM_JOINTS,))
"""Where the joints are told to be at the end of a latent: metres of the wrist, then radians."""
MOVE, TURN = 0.06, 0.25
"""Metres and radians that 1 of ``ee_delta`` moves the wrist in a latent."""
FINGER_REACH = 0.25
"""Metres from the wrist beyond which no finger tip is."""
_UNITS = (MOVE, MOVE, MOVE, TURN, TURN, TURN)
_ORDER = [0, 1, 2, 5, 4, 3]  # roll, pitch, yaw of an action; the joints are yaw, pitch, roll


class Hand(RobotBody):
    """26 joints; see ``bodies.hand_model``.

    ``ee_delta`` is 7 numbers in -1..1 for each latent: how the wrist's target moves (x, y, z of the table) and turns
    (roll, pitch, yaw), in units of ``MOVE`` and ``TURN``, cut at the joints' ranges; and how far the hand closes, -1
    open, 1 closed. ``joints`` is the targets themselves. ``keypoints`` is 24 numbers (``bodies.hand_keypoints``): where
    the wrist is to be, how it is to be turned, and where the finger tips are to be; tips out of reach are refused.
    """

    takes: ClassVar[Mapping[str, Signal]] = {"joints": JOINTS}  # type: ignore[misc]  # every hand's
    modes: ClassVar[tuple[str, ...]] = ("ee_delta", "joints", "keypoints")  # type: ignore[misc]

    def __init__(self) -> None:
        size = 64
        super().__init__(HAND, Pinhole(HEAD, intrinsics(size, size, fov_deg=HEAD_FOV_DEG).double(), size, size))

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the action space of one env."""
        if mode == "joints":
            return super().space(mode, num_latents)
        if mode == "keypoints":
            low, high = HAND.limits[:, :3].float().numpy()
            turns, tips = np.ones(6, np.float32), len(FINGERS)
            least = np.concatenate([low, -turns, np.tile(low - FINGER_REACH, tips)])
            most = np.concatenate([high, turns, np.tile(high + FINGER_REACH, tips)])
            return per_latent(DescribedHands(least, most, dtype=np.float32), num_latents)
        return per_latent(spaces.Box(-1.0, 1.0, (NUM_WRIST + 1,), np.float32), num_latents)

    def names(self, mode: str) -> tuple[str, ...]:
        """Return what errors call the numbers of an action."""
        if mode == "keypoints":
            return NAMES
        return super().names(mode) if mode == "joints" else ("x", "y", "z", "roll", "pitch", "yaw", "grasp")

    def command(self, action: Tensor, mode: str, present: Signals, spec: WorldSpec) -> Track:
        """Return the joint targets of each latent, from those that are commanded now."""
        if mode == "joints":
            return super().command(action, mode, present, spec)
        steps = action.reshape(len(action), spec.chunk_latents, -1).double()
        if mode == "keypoints":
            way = [present["joints"].double()]
            for step in steps.unbind(1):
                way.append(joints_of(step, way[-1]))
            return Track(joints=torch.stack(way[1:], 1).float())
        wrist = present["joints"][:, :NUM_WRIST].double()
        low, high = HAND.limits[:, :NUM_WRIST]
        targets = []
        for step in steps.unbind(1):
            wrist = (wrist + (step[:, :NUM_WRIST] * step.new_tensor(_UNITS))[:, _ORDER]).clamp(low, high)
            targets.append(torch.cat([wrist, grasp(step[:, NUM_WRIST])], -1))
        return Track(joints=torch.stack(targets, 1).float())


def towards(
    plan: Tensor,  # (..., 7) wrist x, y, z, roll, pitch, yaw to be reached, and the grasp
    joints: Tensor,  # (..., 26) that are commanded
) -> Tensor:
    """Return the ``ee_delta`` that leads towards a plan in a latent, (..., 7), as far as one goes."""
    step = (plan[..., :NUM_WRIST] - joints[..., _ORDER]) / plan.new_tensor(_UNITS)
    return torch.cat([step, plan[..., NUM_WRIST:]], -1).clamp(-1, 1)


def joints_at(
    plan: Tensor,  # (..., 7)
) -> Tensor:
    """Return the joint targets of a plan, (..., 26), within their ranges."""
    low, high = HAND.limits.to(plan)
    return torch.cat([plan[..., _ORDER], grasp(plan[..., NUM_WRIST])], -1).clamp(low, high)
