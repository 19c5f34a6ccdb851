"""Uniformly random actions: the floor that every policy is compared with, and what makes another one worse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from .base import Policy


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


class EpsilonGreedy:
    """Acts as another policy does, but for a share of the steps, which are random; equal seeds give equal actions."""

    def __init__(self, policy: Policy, action_space: spaces.Space[Any], *, epsilon: float, seed: int = 0) -> None:
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon} is a share of the steps; pass 0 to 1")
        self.policy, self.epsilon = policy, epsilon
        self.random, self.rng = RandomPolicy(action_space, seed=seed), np.random.default_rng(seed)

    def reset(self, num_envs: int) -> None:
        """Let both begin."""
        self.policy.reset(num_envs)
        self.random.reset(num_envs)

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Ask both, and take the random one's action in some of the envs."""
        own, other = self.policy.act(obs, info), self.random.act(obs, info)
        strays = self.rng.random(len(own)) < self.epsilon
        return np.where(strays.reshape(-1, *[1] * (own.ndim - 1)), other, own)
