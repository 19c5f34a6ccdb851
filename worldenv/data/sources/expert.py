"""Who does what an environment's ``info`` says that an expert would do, more or less."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from ...sims.told import EXPERT
from ..schema import Array


class Told:
    """Does what ``info["expert"]`` says, with noise of a level between none and ``noise`` that an episode draws.

    Level 1 is a standard deviation of half of the actions' range.
    """

    def __init__(self, noise: float = 0.0) -> None:
        if not 0 <= noise <= 10:
            raise ValueError(f"policy noisy:{noise:g}: a level lies within 0..10; 0 is the expert")
        self.noise, self.level, self._begins = noise, 0.0, False
        self._info: Mapping[str, Any] = {}

    @classmethod
    def named(cls, argument: str) -> Told:
        """Make the one that ``expert`` or ``noisy:LEVEL`` names."""
        try:
            level = float(argument or 0)
        except ValueError:
            raise ValueError(f"policy noisy:{argument}: pass a number, as in noisy:0.5") from None
        return cls(level)

    def inform(self, info: Mapping[str, Any], *, begins: bool) -> None:
        """Be told what the environment says now.

        Raises:
            ValueError: if it says nothing of an expert.
        """
        if EXPERT not in info:
            raise ValueError(
                f"this environment's info has no {EXPERT!r}; wrap it in worldenv.sims.told.WithExpert, or choose "
                "another policy"
            )
        self._info, self._begins = info, begins

    def __call__(self, frame: Array, space: gym.Space[Any], generator: np.random.Generator) -> Any:
        """Return an action of the space.

        Raises:
            ValueError: if that is no ``Box``, or noise has no range there.
        """
        if not isinstance(space, gym.spaces.Box) or (self.noise and not space.is_bounded()):
            raise ValueError(f"experts act in a Box, noisy ones in one with bounds; this environment acts in {space}")
        if self._begins:
            self.level = float(generator.uniform(0, self.noise))
        told = np.asarray(self._info[EXPERT], np.float64)
        if self.noise:
            told = told + self.level * (space.high - space.low) / 2 * generator.standard_normal(space.shape)
        return np.clip(told, space.low, space.high).astype(space.dtype)
