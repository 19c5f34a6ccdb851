"""The algorithms that policies are trained by, by name; what one is made of is imported when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldenv.base.objects import import_object, nearest

if TYPE_CHECKING:
    from .policy import LearnerConfig, TrainedPolicy


@dataclass(frozen=True)
class Learner:
    """Where an algorithm is."""

    config: str
    """Its settings, ``package.module:Class``, a ``LearnerConfig``."""
    train: str
    """What trains with them; see ``train``."""


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


def config_class(name: str) -> type[LearnerConfig]:
    """Import the settings of an algorithm."""
    found: type[LearnerConfig] = import_object(find_learner(name).config, what="settings")
    return found


def train(config: LearnerConfig, *, out: Path, **options: Any) -> TrainedPolicy:
    """Train by the algorithm that the settings are of; see ``ppo.train`` for the options."""
    policy: TrainedPolicy = import_object(find_learner(config.kind).train, what="algorithm")(config, out=out, **options)
    return policy
