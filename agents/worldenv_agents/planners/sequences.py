"""Distributions over sequences of actions, from which plans are drawn and which are fitted to the best of them.

A plan is (H, A): H steps, each an action of A numbers. ``Discrete`` has one number of K values, ``MultiDiscrete`` some,
``Box`` real ones. First draws persist: what is held for a while gets somewhere, what changes with every step does not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

Plans = npt.NDArray[Any]  # (N, H, A)
Floats = npt.NDArray[np.float64]


class Sequences(Protocol):
    """A distribution over plans."""

    def draw(self, count: int, rng: np.random.Generator) -> Plans:
        """Draw plans, (count, H, A)."""
        ...

    def fit(self, plans: Plans, weights: Floats) -> None:
        """Move towards plans (N, H, A) as far as they weigh, (N,) with sum 1."""
        ...

    def likeliest(self) -> Plans:
        """Return the plan (H, A) in the middle."""
        ...


class Categorical:
    """Independent chances of every value at every step, once fitted; before that, values that are held."""

    def __init__(self, sizes: tuple[int, ...], horizon: int, *, persistence: float, rate: float) -> None:
        self.sizes, self.horizon, self.persistence, self.rate = sizes, horizon, persistence, rate
        self.chances = [np.full((horizon, size), 1 / size) for size in sizes]
        self.fitted = False

    def draw(self, count: int, rng: np.random.Generator) -> Plans:
        """Draw plans by the chances; at first a step is the last one's again with the chance of ``persistence``."""
        edges = [chance.cumsum(1)[None, :, :-1] for chance in self.chances]
        plans = np.stack([(rng.random((count, self.horizon, 1)) > edge).sum(-1) for edge in edges], -1)
        if not self.fitted:
            held = rng.random((count, self.horizon)) < self.persistence
            for step in range(1, self.horizon):
                plans[held[:, step], step] = plans[held[:, step], step - 1]
        return plans.astype(np.int64)

    def fit(self, plans: Plans, weights: Floats) -> None:
        """Mix the chances with what plans weigh."""
        for i, size in enumerate(self.sizes):
            seen = (plans[..., i, None] == np.arange(size)) * weights[:, None, None]
            self.chances[i] = (1 - self.rate) * self.chances[i] + self.rate * seen.sum(0)
        self.fitted = True

    def likeliest(self) -> Plans:
        """Return the likeliest value of every step."""
        return np.stack([chance.argmax(1) for chance in self.chances], -1)


class Gaussian:
    """A normal distribution of every number at every step, cut to the box."""

    def __init__(
        self,
        low: Floats,  # (A,)
        high: Floats,  # (A,)
        horizon: int,
        *,
        persistence: float,
        rate: float,
    ) -> None:
        self.low, self.high, self.persistence, self.rate = low, high, persistence, rate
        self.mean = np.tile((low + high) / 2, (horizon, 1))
        self.std = np.tile((high - low) / 2, (horizon, 1))
        self.fitted = False

    def draw(self, count: int, rng: np.random.Generator) -> Plans:
        """Draw plans; at first noise is an autoregressive process with the coefficient ``persistence``."""
        noise = rng.standard_normal((count, *self.mean.shape))
        if not self.fitted:
            for step in range(1, noise.shape[1]):
                fresh = np.sqrt(1 - self.persistence**2) * noise[:, step]
                noise[:, step] = self.persistence * noise[:, step - 1] + fresh
        return np.clip(self.mean + self.std * noise, self.low, self.high).astype(np.float32)

    def fit(self, plans: Plans, weights: Floats) -> None:
        """Move mean and spread towards those of the plans as they weigh."""
        mean = np.einsum("n,nha->ha", weights, plans)
        std = np.sqrt(np.einsum("n,nha->ha", weights, (plans - mean) ** 2))
        self.mean = (1 - self.rate) * self.mean + self.rate * mean
        self.std = (1 - self.rate) * self.std + self.rate * std
        self.fitted = True

    def likeliest(self) -> Plans:
        """Return the mean."""
        return np.clip(self.mean, self.low, self.high).astype(np.float32)


def sequences_of(space: spaces.Space[Any], horizon: int, *, persistence: float, rate: float) -> Sequences:
    """Return where to begin in an action space.

    Raises:
        ValueError: for a space that is none of ``Discrete``, ``MultiDiscrete`` and a bounded ``Box``.
    """
    how = {"persistence": persistence, "rate": rate}
    if isinstance(space, spaces.Discrete):
        return Categorical((int(space.n),), horizon, **how)
    if isinstance(space, spaces.MultiDiscrete):
        return Categorical(tuple(space.nvec.tolist()), horizon, **how)
    if isinstance(space, spaces.Box) and space.is_bounded():
        low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
        return Gaussian(low, high, horizon, **how)
    raise ValueError(f"nothing plans in {space}; choose an action_mode with a Discrete, MultiDiscrete or bounded Box")


def as_actions(space: spaces.Space[Any], steps: Plans) -> npt.NDArray[Any]:
    """Return steps of plans (..., A) as actions of the space, a batch of them: numbers where it is ``Discrete``."""
    return steps.reshape(*steps.shape[:-1], *(space.shape or ()))
