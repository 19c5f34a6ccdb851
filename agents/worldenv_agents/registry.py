"""Policies by name. A name may carry an argument after a colon: ``follow:w-8, right-8``, ``ppo:runs/navigate``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from worldenv.dynamics.labels import CLASSES

from .base import Policy
from .chase import Chase
from .environments import EnvConfig, shown_to_clones
from .learners import LEARNERS
from .random_agent import EpsilonGreedy, RandomPolicy
from .scripted import FollowKeys, OutAndBack, Retrace, SeekGoal, Wander

Envs = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class PolicyEntry:
    """How to build a policy, and the environment it needs."""

    factory: Callable[[Envs, str, int], Policy]
    """Builds the policy from the vector env, the argument after the colon and a seed."""
    adapt: Callable[[EnvConfig, str], EnvConfig]
    """Sets the modes that the policy needs on the environment asked for."""
    example: str = ""
    """How to write it, for a policy that takes an argument."""


def _random(envs: Envs, argument: str, seed: int) -> Policy:
    return RandomPolicy(envs.single_action_space, seed=seed)


def _seek_goal(envs: Envs, argument: str, seed: int, *, detour: int = 2) -> Policy:
    _check_goal(envs, 4, "reads a pose in obs['goal'], as in Navigate")
    return SeekGoal(**_step(envs), seed=seed, detour=detour)


def _wander(envs: Envs, argument: str, seed: int) -> Policy:
    return Wander(**_step(envs), seed=seed)


def _step(envs: Envs) -> dict[str, float]:
    """Return by how much a step turns, in radians, and moves, in metres."""
    spec = envs.unwrapped.core.spec  # type: ignore[attr-defined]
    turn = math.radians(spec.steps.turn_deg) * spec.chunk_latents
    return {"turn": turn, "move": spec.steps.move * spec.chunk_latents}


def _check_goal(envs: Envs, size: int, reads: str) -> None:
    """Refuse goals of another kind, which a policy would take for its own."""
    shape = envs.single_observation_space["goal"].shape  # type: ignore[index]
    if shape != (size,):
        raise ValueError(f"it {reads}; here that has shape {', '.join(map(str, shape))}")


def _chase(envs: Envs, argument: str, seed: int) -> Policy:
    _check_goal(envs, len(CLASSES), "reads a class in obs['goal'], as in ObjectNav")
    return Chase(**_step(envs), seed=seed)


def _out_and_back(envs: Envs, argument: str, seed: int) -> Policy:
    return OutAndBack()


def _retrace(envs: Envs, argument: str, seed: int) -> Policy:
    return Retrace(**_step(envs))


def _follow(envs: Envs, argument: str, seed: int) -> Policy:
    spec = envs.unwrapped.core.spec  # type: ignore[attr-defined]
    return FollowKeys(argument, num_latents=spec.chunk_latents)


def _expert(envs: Envs, argument: str, seed: int) -> Policy:
    from worldenv.sims.mujoco.experts import Expert

    from .hand import EXPERT_OF, HandExpert

    core = envs.unwrapped.core  # type: ignore[attr-defined]
    task = type(core.task).__name__
    if task not in EXPERT_OF:
        raise ValueError(f"there is no expert for task {task}; there are some for {', '.join(EXPERT_OF)}")
    expert = Expert(EXPERT_OF[task], noise=_level(argument), seed=seed)
    return HandExpert(expert, action_mode=core.config.action_mode, num_latents=core.spec.chunk_latents)


def _level(argument: str) -> float:
    try:
        return float(argument or 0)
    except ValueError:
        raise ValueError(f"noise level {argument!r} is no number; write noisy:0.5") from None


def _epsilon(envs: Envs, argument: str, seed: int) -> Policy:
    level, name = _often(argument)
    entry, inner = find_policy(name)
    return EpsilonGreedy(entry.factory(envs, inner, seed), envs.single_action_space, epsilon=level, seed=seed)


def _often(argument: str) -> tuple[float, str]:
    level, _, name = argument.partition(":")
    if not name:
        raise ValueError(f"epsilon:{argument} names no policy; write epsilon:0.2:seek_goal")
    return _level(level), name


def _adapt_epsilon(config: EnvConfig, argument: str) -> EnvConfig:
    entry, inner = find_policy(_often(argument)[1])
    return entry.adapt(config, inner)


def _adapt_expert(config: EnvConfig, argument: str) -> EnvConfig:
    """Show the goal alone: experts do not look, and where pictures can be left out they cost most of the time."""
    if "/Hand" not in config.env:
        return config
    blind = False if config.place == "sim" else config.pictures
    return replace(config, obs_mode="dict", obs_keys=("goal",), pictures=blind, correct=None)


def _cloned(envs: Envs, argument: str, seed: int) -> Policy:
    from .action_chunks import ClonedPolicy

    spec = envs.unwrapped.core.spec  # type: ignore[attr-defined]
    return ClonedPolicy.load(Path(argument), num_latents=spec.chunk_latents)


def _adapt_cloned(config: EnvConfig, argument: str) -> EnvConfig:
    return shown_to_clones(config)


def _trained(envs: Envs, argument: str, seed: int, *, deterministic: bool) -> Policy:
    from .policy import TrainedPolicy

    spaces = envs.single_observation_space, envs.single_action_space
    return TrainedPolicy.load(argument, *spaces, deterministic=deterministic, seed=seed)


def _adapt_trained(config: EnvConfig, argument: str, *, kind: str) -> EnvConfig:
    from .policy import read_policy

    learner = read_policy(argument)[0]
    if learner.kind != kind:
        raise ValueError(f"{argument} was trained by {learner.kind}; write {learner.kind}:{argument}")
    trained = learner.environment
    shared = {name: getattr(trained, name) for name in ("action_mode", "obs_mode", "obs_keys", "correct")}
    return replace(config, **shared)


def _adapt_seek_goal(config: EnvConfig, argument: str) -> EnvConfig:
    return replace(config, action_mode="basic", obs_mode="dict", obs_keys=("goal",))


def _adapt_chase(config: EnvConfig, argument: str) -> EnvConfig:
    return replace(config, action_mode="basic", obs_mode="dict", obs_keys=("image", "goal"))


POLICIES: dict[str, PolicyEntry] = {
    "random": PolicyEntry(_random, lambda env, _: replace(env, correct=None)),
    "seek_goal": PolicyEntry(_seek_goal, _adapt_seek_goal),
    "straight": PolicyEntry(partial(_seek_goal, detour=0), _adapt_seek_goal),
    "out_and_back": PolicyEntry(_out_and_back, lambda env, _: replace(env, action_mode="basic")),
    "chase": PolicyEntry(_chase, _adapt_chase),
    "retrace": PolicyEntry(_retrace, lambda env, _: replace(env, action_mode="basic")),
    "wander": PolicyEntry(_wander, lambda env, _: replace(env, action_mode="basic")),
    "follow": PolicyEntry(
        _follow, lambda env, _: replace(env, action_mode="keys_per_latent"), example='"follow:w-8, right-8"'
    ),
    "epsilon": PolicyEntry(_epsilon, _adapt_epsilon, example="epsilon:0.2:seek_goal"),
    "expert": PolicyEntry(_expert, _adapt_expert),
    "noisy": PolicyEntry(_expert, _adapt_expert, example="noisy:0.5"),
    "cloned": PolicyEntry(_cloned, _adapt_cloned, example="cloned:DIR"),
}
for _kind in LEARNERS:
    for _name, _likeliest in ((_kind, True), (f"{_kind}_sampled", False)):
        POLICIES[_name] = PolicyEntry(
            partial(_trained, deterministic=_likeliest), partial(_adapt_trained, kind=_kind), example=f"{_name}:DIR"
        )


def find_policy(name: str) -> tuple[PolicyEntry, str]:
    """Look a policy up by ``NAME`` or ``NAME:ARGUMENT``; return its entry and the argument.

    Raises:
        ValueError: on an unknown name, or a missing or needless argument.
    """
    key, _, argument = name.partition(":")
    if key not in POLICIES:
        raise ValueError(f"unknown policy {key!r}; choose one of {', '.join(POLICIES)}")
    entry = POLICIES[key]
    if bool(argument) != bool(entry.example):
        raise ValueError(f"policy {name!r}: write {entry.example or key}")
    return entry, argument
