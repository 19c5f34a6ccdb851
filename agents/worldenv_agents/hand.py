"""The experts of the hand's table as policies: they do not look, but read where everything lies.

In the simulator that is known, in a world it is what the head reads off pictures, both in ``info``; the goal is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from worldenv.bodies.hand import Hand, joints_at, towards
from worldenv.dynamics.spec import WorldSpec
from worldenv.sims.mujoco.experts import Expert

EXPERT_OF = {"HandPlace": "place", "HandLift": "lift", "HandPush": "push"}
"""Which expert does a task, by the task's class."""

_HAND, _ONE = Hand(), WorldSpec(takes=dict(Hand.takes), gives={}, chunk_latents=1)


class HandExpert:
    """Plans with an expert and acts in ``ee_delta`` or ``joints``."""

    def __init__(self, expert: Expert, *, action_mode: str, num_latents: int) -> None:
        if action_mode not in ("ee_delta", "joints"):
            raise ValueError(f"action_mode={action_mode!r}: experts act in 'ee_delta' and 'joints'")
        self.expert, self.action_mode, self.num_latents = expert, action_mode, num_latents

    def reset(self, num_envs: int) -> None:
        """Begin with the hands where they are."""
        self.expert.begin()

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the next actions, (B, D), or (B, latents, D) where a chunk has several."""
        thing = info["object"] if "object" in info else info["object_read"]
        thing, target, joints = (torch.as_tensor(part).double() for part in (thing, obs["goal"], info["joints"]))
        plans = self.expert.plan(thing[:, :3], target, joints, self.num_latents)
        actions: list[Tensor] = []
        for plan in plans.unbind(1):
            actions.append(joints_at(plan) if self.action_mode == "joints" else towards(plan, joints))
            joints = joints_at(plan) if self.action_mode == "joints" else _reached(plan, joints)
        chunk = actions[0] if self.num_latents == 1 else torch.stack(actions, 1)
        return chunk.float().numpy()


def _reached(plan: Tensor, joints: Tensor) -> Tensor:
    """Return the joints that are commanded after the step towards a plan, (B, 26)."""
    command = _HAND.command(towards(plan, joints), "ee_delta", {"joints": joints}, _ONE)
    return command["joints"][:, 0].double()
