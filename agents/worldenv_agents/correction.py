"""A cloned policy that is corrected: what learns says by how much its commands are to differ, not what they are.

Where nothing is said the hand does what was cloned, so that learning begins with a policy that is of use, and what is
learned has 7 numbers a step instead of 26 a latent (residual policy learning: Silver et al., arXiv 1812.06298).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldenv.bodies.hand_model import HAND, NUM_JOINTS, NUM_WRIST, WRIST, grasp

from .action_chunks import ClonedPolicy

MOVE, TURN, CLOSE = 0.02, 0.1, 0.25
"""Metres and radians that a correction of 1 moves and turns the wrist by the end of a step, and by how much of the way
between open and closed it closes the fingers."""
NAMES = (*(name for name, *_ in WRIST), "grasp")
"""What the numbers of a correction are of."""


class Corrected(VectorWrapper):
    """An environment of the hand's in which a cloned policy acts; actions (B, 7) in -1..1 correct it (``NAMES``).

    Raises:
        ValueError: if the folder holds no cloned policy, or one that plans less far than a step goes.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], folder: Path) -> None:
        super().__init__(envs)
        self.num_latents = envs.unwrapped.core.spec.chunk_latents  # type: ignore[attr-defined]
        self.policy = ClonedPolicy.load(folder, num_latents=self.num_latents)
        self.single_action_space = spaces.Box(-1.0, 1.0, (len(NAMES),), np.float32)
        self.action_space = batch_space(self.single_action_space, envs.num_envs)
        self.seen: Any = None

    def reset(self, **kwargs: Any) -> Any:
        """Begin episodes."""
        self.seen, info = self.env.reset(**kwargs)
        return self.seen, info

    def step(self, actions: npt.NDArray[Any]) -> Any:
        """Act as was cloned, and a little differently.

        Raises:
            ValueError: if a correction is not finite, or not in -1..1.
        """
        correction = np.asarray(actions, np.float64)
        if correction.shape != self.action_space.shape:
            raise ValueError(f"corrections have shape {correction.shape}, expected {self.action_space.shape}")
        outside = correction[~(np.abs(correction) <= 1 + 1e-5)]
        if outside.size:
            raise ValueError(f"a correction is {outside[0]:g}, expected -1..1; clip them")
        planned = torch.as_tensor(self.policy.act(self.seen, {})).double().view(len(correction), -1, NUM_JOINTS)
        joints = corrected(planned, torch.from_numpy(correction)).float().numpy()
        self.seen, *rest = self.env.step(joints[:, 0] if self.num_latents == 1 else joints)
        return self.seen, *rest


def corrected(
    planned: Tensor,  # (B, n, 26) joints of the latents of a step
    correction: Tensor,  # (B, 7) in -1..1
) -> Tensor:
    """Return joints that differ from those planned ever more until the end of the step, within their ranges."""
    units = planned.new_tensor([MOVE if slides else TURN for _, _, slides, *_ in WRIST])
    closing = CLOSE * (grasp(planned.new_ones(1)) - grasp(-planned.new_ones(1)))  # (1, 20)
    whole = torch.cat([correction[:, :NUM_WRIST] * units, correction[:, NUM_WRIST:] * closing], -1)
    share = (torch.arange(planned.shape[1]).to(planned) + 1) / planned.shape[1]
    low, high = HAND.limits.to(planned)
    return (planned + share[:, None] * whole[:, None]).clamp(low, high)
