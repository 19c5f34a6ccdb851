"""The algorithms that policies are trained by, by name; what one is made of is imported when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worldenv.base.objects import import_object, nearest


@dataclass(frozen=True)
class Learner:
    """Where an algorithm is."""

    config: str
    """Its settings, ``package.module:Class``, a ``LearnerConfig``."""
    train: str
    """What trains with them; see ``policy.train``."""


LEARNERS = {
    "ppo": Learner("worldenv_agents.ppo:PPOConfig", "worldenv_agents.ppo:train"),
    "imagination": Learner("worldenv_agents.imagination:ImaginationConfig", "worldenv_agents.imagination:train"),
}


def find_learner(name: str) -> Learner:
    """Look an algorithm up.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in LEARNERS:
        raise ValueError(f"unknown algorithm {name!r}; choose one of {', '.join(LEARNERS)}{nearest(name, LEARNERS)}")
    return LEARNERS[name]


def config_class(name: str) -> type[Any]:
    """Import the settings of an algorithm, a ``LearnerConfig``."""
    found: type[Any] = import_object(find_learner(name).config, what="settings")
    return found
