"""Where a policy is scored: in the simulator, and on the same episodes in what it may have been trained in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from worldenv.base.log import Stopwatch, console
from worldenv.envs.wrappers import RecordChunkVideo

from .base import Policy
from .environments import EnvConfig, make_envs
from .evaluate import evaluate, run_episodes

Envs = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Acting:
    """A policy, before it is known where it acts."""

    adapt: Callable[[EnvConfig], EnvConfig]
    """Sets the modes that it needs."""
    make: Callable[[Envs], Policy]
    """Builds it for an environment."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where policies are scored; episodes are the same in all."""

    real: EnvConfig
    """The simulator."""
    imagined: EnvConfig
    """What episodes are imagined in."""
    also: Mapping[str, EnvConfig] = field(default_factory=dict)
    """Where else, at the end of a training."""

    def all(self) -> Iterator[EnvConfig]:
        """Yield each."""
        yield from (self.real, self.imagined, *self.also.values())


def places_of(
    environment: EnvConfig,
    *,
    generated: str | None = None,  # ``dynamics`` of what is not the simulator
    starts: tuple[int, int] | None = None,
    also: Mapping[str, EnvConfig] | None = None,
) -> Places:
    """Return where policies of an environment are scored; imagined episodes are whole, or as long as ``horizon``."""

    def inside(place: EnvConfig, dynamics: str | None) -> EnvConfig:
        limit = place.max_episode_steps if place.horizon is None else place.horizon
        changed = {"horizon": None, "pessimism": None, "max_episode_steps": limit, "starts": starts}
        return replace(place, dynamics=dynamics, **changed)  # type: ignore[arg-type]

    return Places(
        real=replace(environment, dynamics="sim", memory=None, render=None, starts=starts),
        imagined=inside(environment, generated),
        also={name: inside(place, place.dynamics) for name, place in (also or {}).items()},
    )


class Scorer:
    """Scores policies; environments that it made stay open until it is closed."""

    def __init__(self, num_envs: int, first_seed: int, horizon: int | None) -> None:
        self.num_envs, self.first_seed, self.horizon = num_envs, first_seed, horizon
        self.open: dict[tuple[str, int], Envs] = {}

    def find(self, place: EnvConfig, count: int) -> Envs:
        """Return the environment of a place with so many envs; rows that are done wait for the others."""
        key = repr(place), count
        if key not in self.open:
            self.open[key] = make_envs(place, count, autoreset_mode="Disabled")
            if self.open[key].unwrapped.core.config.max_episode_steps is None:  # type: ignore[attr-defined]
                console.print("the environment has no time limit: a policy that never ends is scored for ever")
        return self.open[key]

    def score(self, acting: Acting, places: Places, episodes: int, *, last: bool) -> dict[str, Any]:
        """Score a policy; return a list with a number of each episode by name.

        ``real`` returns, ``success`` and ``length`` are of whole episodes in the simulator, ``early`` the returns of
        their first steps, ``imagined`` and ``imagined_success`` what is imagined of these; the ``last`` time also
        returns and success in the other places, and ``state_bytes``, what an env remembers when its episode has ended.
        """
        watch, count = Stopwatch(), min(self.num_envs, episodes)

        def run(place: EnvConfig) -> tuple[Envs, Any]:
            envs = self.find(acting.adapt(place), count)
            return envs, evaluate(acting.make(envs), envs, episodes=episodes, first_seed=self.first_seed)

        _, real = run(places.real)
        inside, imagined = run(places.imagined)
        scores: dict[str, Any] = {
            "real": listed(real.returns),
            "success": listed(real.success),
            "length": listed(real.lengths),
            "early": listed(real.rewards[:, : self.horizon].sum(1)),
            "imagined": listed(imagined.returns),
            "imagined_success": listed(imagined.success),
        }
        if last and places.imagined.place == "world":
            scores["state_bytes"] = round(inside.unwrapped.core.state_bytes())  # type: ignore[attr-defined]
        if last and places.also:
            found = {name: run(place)[1] for name, place in places.also.items()}
            scores["also"] = {
                name: {"return": listed(one.returns), "success": listed(one.success)} for name, one in found.items()
            }
        return {**scores, "scored_s": watch.seconds()}

    def film(self, acting: Acting, places: Places, count: int, folder: Path) -> None:
        """Write ``real.mp4`` and ``imagined.mp4``: the first episodes that are scored, side by side."""
        for name, place in (("real", places.real), ("imagined", places.imagined)):
            made = make_envs(acting.adapt(place), count, autoreset_mode="Disabled")
            envs = RecordChunkVideo(made, folder, prefix=name)
            try:
                run_episodes(acting.make(envs), envs, range(self.first_seed, self.first_seed + count))
            finally:
                envs.close()

    def close(self) -> None:
        """Close every environment."""
        for envs in self.open.values():
            envs.close()


def listed(values: Any) -> list[float]:
    """Return numbers as they are kept."""
    found: list[float] = np.round(values, 4).tolist()
    return found
