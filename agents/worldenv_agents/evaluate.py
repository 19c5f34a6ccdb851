"""Run policies for whole episodes with fixed seeds; means, success rates, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from worldenv.eval.report.statistics import summarise

from .base import Policy
from .environments import EnvConfig, make_envs
from .registry import find_policy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What a policy earned, one number per episode; episode i has seed ``first_seed + i`` whatever the policy."""

    returns: Floats  # (N,)
    success: Floats  # (N,) 0 or 1
    lengths: Floats  # (N,) env steps
    early: Floats  # (N,) what was earned in the first ``within`` steps

    def summary(self) -> dict[str, Any]:
        """Return mean, 95 % bootstrap interval over episodes and count of each."""
        return {key: summarise(getattr(self, key)) for key in ("returns", "success", "lengths")}


def run_episodes(
    policy: Policy, envs: VectorEnv[Any, Any, Any], seeds: Sequence[int], *, within: int | None = None
) -> Scores:
    """Run one episode in every env, until the last has ended.

    Envs that are done go on without being counted, so long episodes count as much as short ones: in new episodes, or,
    with DISABLED, as they are (simulators of recorded environments then stand still, which costs nothing).

    Args:
        policy: who acts.
        envs: a SAME_STEP or DISABLED vector environment whose episodes have a limit.
        seeds: one per env.
        within: steps of which the return is noted beside that of the whole episode; None is all of them.
    """
    mode = envs.metadata["autoreset_mode"]
    if mode == AutoresetMode.NEXT_STEP:
        raise ValueError("evaluation needs autoreset_mode='SameStep' or 'Disabled'; make the env without another mode")
    policy.reset(envs.num_envs)
    obs, info = envs.reset(seed=list(seeds))  # type: ignore[arg-type]  # ours takes a seed per row
    returns, success, lengths, early = (np.zeros(envs.num_envs) for _ in range(4))
    running = np.ones(envs.num_envs, bool)
    while running.any():
        obs, reward, terminated, truncated, info = envs.step(policy.act(obs, info))
        returns += running * np.asarray(reward, np.float64)
        lengths += running
        if within is None or lengths.max() <= within:
            early = returns.copy()
        ended = running & (terminated | truncated)
        if ended.any():
            success[ended] = (info["final_info"] if mode == AutoresetMode.SAME_STEP else info)["is_success"][ended]
        running &= ~ended
        if mode == AutoresetMode.DISABLED:
            envs.unwrapped.go_on()  # type: ignore[attr-defined]
    return Scores(returns, success, lengths, early)


def evaluate(
    policy: Policy,
    envs: VectorEnv[Any, Any, Any],
    *,
    episodes: int,
    first_seed: int = 0,
    within: int | None = None,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Run ``episodes`` episodes in batches of the env's size.

    Args:
        policy: who acts.
        envs: see ``run_episodes``.
        episodes: how many count.
        first_seed: seed of the first; the others follow.
        within: see ``run_episodes``.
        on_batch: called with the number of episodes done, after each batch.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes} must be at least 1")
    batches = []
    for start in range(0, episodes, envs.num_envs):
        seeds = range(first_seed + start, first_seed + start + envs.num_envs)
        batches.append(run_episodes(policy, envs, seeds, within=within))
        on_batch(min(episodes, start + envs.num_envs))
    joined = {field.name: np.concatenate([getattr(b, field.name) for b in batches]) for field in fields(Scores)}
    return Scores(**{name: values[:episodes] for name, values in joined.items()})


def evaluate_named(
    name: str,
    config: EnvConfig,
    *,
    episodes: int,
    num_envs: int = 16,
    first_seed: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Build a policy of the registry with the environment it needs, evaluate it, and close the environment."""
    entry, argument = find_policy(name)
    if config.max_episode_steps == -1:
        raise ValueError("max_episode_steps=-1: an episode without a limit may never end; give it one to evaluate")
    envs = make_envs(entry.adapt(config, argument), min(num_envs, max(episodes, 1)))
    try:
        policy = entry.factory(envs, argument, first_seed)
        return evaluate(policy, envs, episodes=episodes, first_seed=first_seed, on_batch=on_batch)
    finally:
        envs.close()
