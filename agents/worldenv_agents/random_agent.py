"""Uniformly random actions: the floor that every policy is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space


class RandomPolicy:
    """Samples an action space; equal seeds give equal actions."""

    def __init__(self, action_space: spaces.Space[Any], *, seed: int = 0) -> None:
        self.action_space, self.seed = action_space, seed
        self._batch: spaces.Space[Any] | None = None

    def reset(self, num_envs: int) -> None:
        """Go on with the stream of random numbers, for ``num_envs`` envs."""
        if self._batch is None or self._batch.shape is None or self._batch.shape[0] != num_envs:
            self._batch = batch_space(self.action_space, num_envs)
            self._batch.seed(self.seed)

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Draw one action per env."""
        if self._batch is None:
            raise RuntimeError("call reset(num_envs) before act()")
        return np.asarray(self._batch.sample())
