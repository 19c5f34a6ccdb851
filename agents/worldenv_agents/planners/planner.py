"""Plan for several episodes at a time: draw sequences of actions, have them imagined, fit to what they bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from .cem import CEM
from .mppi import MPPI
from .sequences import Floats, Plans, Sequences, sequences_of


class Solver(Protocol):
    """What makes a planner of a distribution over plans."""

    def weigh(self, returns: Floats) -> Floats:
        """Return how much plans with these returns (N,) weigh in the next distribution, (N,) with sum 1."""
        ...

    def choose(self, plans: Plans, returns: Floats, sequences: Sequences) -> Plans:
        """Return what to do, (H, A), after plans (N, H, A) have been imagined and the distribution fitted."""
        ...


SOLVERS: dict[str, Callable[[], Solver]] = {"cem": CEM, "mppi": MPPI}

Imagine = Callable[[list[int], Plans], Floats]
"""Returns what plans (E, N, H, A) of these episodes (E,) are imagined to bring, (E, N)."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How a decision is made."""

    planner: Literal["cem", "mppi"] = "cem"
    """Which plans the next ones are drawn about: the best ones, or all as their returns weigh."""
    lookahead: int = 6
    """Steps of a plan, each a chunk."""
    execute: int = 1
    """Steps that are taken before the next decision."""
    iterations: int = 2
    """Rounds of drawing and fitting that the rollouts are divided among."""
    persistence: float = 0.5
    """Chance that a step of a first plan is the step before it again; of real numbers, their correlation."""
    rate: float = 0.8
    """How far a distribution moves to what was fitted."""
    discount: float = 0.97
    """Of a reward for each step that it lies ahead."""

    def __post_init__(self) -> None:
        if self.planner not in SOLVERS:
            raise ValueError(f"unknown planner {self.planner!r}; choose one of {', '.join(SOLVERS)}")
        if not 1 <= self.execute <= self.lookahead or self.iterations < 1:
            raise ValueError(
                f"execute={self.execute}, lookahead={self.lookahead}, iterations={self.iterations}; pass "
                "1 <= execute <= lookahead, and one iteration or more"
            )
        for name, least in (("persistence", 0.0), ("rate", 0.01), ("discount", 0.01)):
            if not least <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name):g} must lie within {least:g}..1")


class Planner:
    """Makes decisions for E episodes; what it draws in one follows from that episode's seed alone."""

    def __init__(self, config: PlannerConfig, space: spaces.Space[Any], *, rollouts: int, seeds: Sequence[int]) -> None:
        if rollouts < 1:
            raise ValueError(f"rollouts={rollouts} must be at least 1")
        self.config, self.space, self.solver = config, space, SOLVERS[config.planner]()
        self.rounds = np.array_split(np.arange(rollouts), min(config.iterations, rollouts))
        self.rngs = [np.random.default_rng(seed) for seed in seeds]
        self.before: dict[int, Plans] = {}  # what was left of each episode's last plan, (H, A)

    def decide(self, episodes: list[int], imagine: Imagine) -> dict[int, npt.NDArray[Any]]:
        """Return a plan (H, A) for each of these episodes."""
        about = {e: self.about() for e in episodes}
        tried: dict[int, list[Plans]] = {e: [] for e in episodes}
        brought: dict[int, list[Floats]] = {e: [] for e in episodes}
        for number, members in enumerate(self.rounds):
            plans = np.stack([self._draw(e, about[e], len(members), first=number == 0) for e in episodes])
            returns = imagine(episodes, plans)
            for e, some, earned in zip(episodes, plans, returns, strict=True):
                tried[e].append(some)
                brought[e].append(earned)
                every = np.concatenate(brought[e])
                about[e].fit(np.concatenate(tried[e]), self.solver.weigh(every))
        return {e: self._choose(e, tried[e], brought[e], about[e]) for e in episodes}

    def about(self) -> Sequences:
        """Return what first plans are drawn from."""
        how = {"persistence": self.config.persistence, "rate": self.config.rate}
        return sequences_of(self.space, self.config.lookahead, **how)

    def _draw(self, episode: int, about: Sequences, count: int, *, first: bool) -> Plans:
        """Draw plans; of the first ones, one goes on with the last decision's."""
        drawn = about.draw(count, self.rngs[episode])
        left = self.before.get(episode)
        if first and left is not None:
            known = min(len(left), drawn.shape[1])
            drawn[0, :known] = left[:known]
        return drawn

    def _choose(self, episode: int, tried: list[Plans], brought: list[Floats], about: Sequences) -> Plans:
        chosen = self.solver.choose(np.concatenate(tried), np.concatenate(brought), about)
        self.before[episode] = chosen[self.config.execute :]
        return chosen
