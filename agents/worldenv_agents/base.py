"""The policy protocol: a batch of observations in, a batch of actions out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt


class Policy(Protocol):
    """Acts in B envs at once.

    A policy may remember things from step to step (a place in a plan, a goal seen before), so whoever runs one calls
    ``reset`` when all envs begin new episodes. ``evaluate.run_episodes`` does.
    """

    def reset(self, num_envs: int) -> None:
        """Forget the past: ``num_envs`` episodes begin."""
        ...

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return one action per env, in the shape of the vector env's action space.

        Args:
            obs: what the vector env returned, an array (B, ...) or a dictionary of them.
            info: its info, ``c2w`` (B, 4, 4) among it.
        """
        ...
