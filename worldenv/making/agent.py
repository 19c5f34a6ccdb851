"""The agent of later rounds: it learns inside the world so far, and then records where that leads it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.log import console
from .config import STAGES, MakeConfig

if TYPE_CHECKING:
    from worldenv_agents.ppo import PPOConfig

    from .plan import Plan

PROBE_STEPS = 6
"""Steps of all envs that are timed."""
LEARNING = 0.7
"""Share of an agent's time that its envs take; the rest is for PPO to learn."""
LEAST_STEPS = 256
"""Decisions that an agent learns from at least."""


def train_agent(world: Path, out: Path, config: MakeConfig, plan: Plan) -> Path:
    """Train PPO inside a world for what is the VAE's share in the first round, from where it is; return its folder.

    Raises:
        ImportError: if Stable-Baselines3, an extra, is not installed.
    """
    from worldenv_agents.gain import default_learner
    from worldenv_agents.ppo import train

    learner = default_learner()
    place = replace(learner.environment, world=str(world))
    learner = replace(learner, environment=place, seed=config.seed)
    if out.name not in plan.steps:
        seconds = 3600 * STAGES["vae"] * config.hours / config.rounds
        plan.note(out.name, max(LEAST_STEPS, int(LEARNING * seconds * _rate(learner))))
    steps = plan.steps[out.name]
    console.print(f"{out.name}: {steps} decisions inside {world.name}")
    train(replace(learner, steps=steps), out=out, progress=True, resume=True)
    return out


def _rate(learner: PPOConfig) -> float:
    """Return how many decisions a second the envs take."""
    from worldenv_agents.environments import make_envs

    envs = make_envs(learner.environment, learner.num_envs)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    start = time.perf_counter()
    for _ in range(PROBE_STEPS):
        envs.step(envs.action_space.sample())
    envs.close()
    return PROBE_STEPS * learner.num_envs / (time.perf_counter() - start)
