"""Environments that say what an expert would do, in ``info``, for who records them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

EXPERT = "expert"
"""Under which name ``info`` has it."""
Script = Callable[[Any], npt.NDArray[Any]]
"""Returns an action for an observation."""


class WithExpert(gym.Wrapper[Any, Any, Any, Any]):
    """Says in ``info`` what a script would do now: an action of the space.

    Raises:
        ValueError: if that is no ``Box``.
    """

    def __init__(self, env: gym.Env[Any, Any], script: Script) -> None:
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Box):
            raise ValueError(f"{env} acts in {env.action_space}; experts are told of where that is a Box")
        self.script, self.space = script, env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, self._told(obs, info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, self._told(obs, info)

    def _told(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        return info | {EXPERT: np.clip(self.script(obs), self.space.low, self.space.high).astype(self.space.dtype)}
