"""Run policies for whole episodes with fixed seeds; means, success rates, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from worldenv.base.config import MOST_WHOLE, check_counts
from worldenv.envs.arguments import MOST
from worldenv.eval.report.statistics import summarise

from .base import Policy
from .environments import EnvConfig, make_envs
from .registry import find_policy

Floats = npt.NDArray[np.float64]
MOST_EPISODES = 2**24
"""Of a policy; each is kept."""


@dataclass(frozen=True)
class Scores:
    """What a policy earned, one number per episode; episode i has seed ``first_seed + i`` whatever the policy."""

    returns: Floats  # (N,)
    success: Floats  # (N,) 0 or 1
    lengths: Floats  # (N,) env steps
    rewards: Floats  # (N, T) of each step, 0 after the end

    def summary(self) -> dict[str, Any]:
        """Return mean, 95 % bootstrap interval over episodes and count of each."""
        return {key: summarise(getattr(self, key)) for key in ("returns", "success", "lengths")}


def run_episodes(policy: Policy, envs: VectorEnv[Any, Any, Any], seeds: Sequence[int]) -> Scores:
    """Run one episode in every env, until the last has ended.

    Envs that are done go on without being counted, so long episodes count as much as short ones: in new episodes, or,
    with DISABLED, as they are (simulators of recorded environments then stand still, which costs nothing).

    Args:
        policy: who acts.
        envs: a SAME_STEP or DISABLED vector environment whose episodes have a limit.
        seeds: one per env.
    """
    mode = envs.metadata["autoreset_mode"]
    if mode == AutoresetMode.NEXT_STEP:
        raise ValueError("evaluation needs autoreset_mode='SameStep' or 'Disabled'; make the env without another mode")
    policy.reset(envs.num_envs)
    obs, info = envs.reset(seed=list(seeds))  # type: ignore[arg-type]  # ours takes a seed per row
    success, lengths, rewards = np.zeros(envs.num_envs), np.zeros(envs.num_envs), []
    running = np.ones(envs.num_envs, bool)
    while running.any():
        obs, reward, terminated, truncated, info = envs.step(policy.act(obs, info))
        rewards.append(running * np.asarray(reward, np.float64))
        lengths += running
        ended = running & (terminated | truncated)
        if ended.any():
            success[ended] = (info["final_info"] if mode == AutoresetMode.SAME_STEP else info)["is_success"][ended]
        running &= ~ended
        if mode == AutoresetMode.DISABLED:
            envs.unwrapped.go_on()  # type: ignore[attr-defined]
    earned = np.stack(rewards, 1)
    return Scores(earned.sum(1), success, lengths, earned)


def evaluate(
    policy: Policy,
    envs: VectorEnv[Any, Any, Any],
    *,
    episodes: int,
    first_seed: int = 0,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Run ``episodes`` episodes in batches of the env's size.

    Args:
        policy: who acts.
        envs: see ``run_episodes``.
        episodes: how many count.
        first_seed: seed of the first; the others follow.
        on_batch: called with the number of episodes done, after each batch.
    """
    check_counts(episodes=episodes)
    batches = []
    for start in range(0, episodes, envs.num_envs):
        batches.append(run_episodes(policy, envs, range(first_seed + start, first_seed + start + envs.num_envs)))
        on_batch(min(episodes, start + envs.num_envs))
    most = max(b.rewards.shape[1] for b in batches)
    padded = [np.pad(b.rewards, ((0, 0), (0, most - b.rewards.shape[1]))) for b in batches]
    joined = (np.concatenate([getattr(b, key) for b in batches]) for key in ("returns", "success", "lengths"))
    return Scores(*(values[:episodes] for values in (*joined, np.concatenate(padded))))


def check_episodes(*, episodes: int, num_envs: int, first_seed: int) -> None:
    """Refuse, before anything is run, numbers of episodes that cannot be.

    Raises:
        ValueError: naming the one that is wrong.
    """
    check_counts(episodes=episodes, num_envs=num_envs)
    for name, count, most in (("episodes", episodes, MOST_EPISODES), ("num_envs", num_envs, MOST["num_envs"])):
        if count > most:
            raise ValueError(f"{name}={count} must be at most {most}")
    if not 0 <= first_seed <= MOST_WHOLE - episodes - num_envs:
        raise ValueError(f"first_seed={first_seed} must be 0 or more, and the last episode's seed below 2**63")


def check_policies(names: Sequence[str], config: EnvConfig) -> None:
    """Refuse, before anything is run, policies that do not exist, are named twice, or do not fit the environment."""
    fitting: dict[str, VectorEnv[Any, Any, Any]] = {}
    try:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"policy {name!r} is named {names.count(name)} times; name each once")
            entry, argument = find_policy(name)
            asked = entry.adapt(config, argument)
            if repr(asked) not in fitting:
                fitting[repr(asked)] = open_for(name, config, asked, 1)
            entry.factory(fitting[repr(asked)], argument, 0)
    finally:
        for envs in fitting.values():
            envs.close()


def open_for(name: str, config: EnvConfig, asked: EnvConfig, num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make the environment that a policy asks for; errors name it where it asks for another than was said."""
    if config.max_episode_steps == -1:
        raise ValueError("max_episode_steps=-1: an episode without a limit may never end; give it one to evaluate")
    try:
        return make_envs(asked, num_envs)
    except ValueError as error:
        if asked == config:
            raise
        raise ValueError(f"policy {name!r}: {error}") from None


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
    envs = open_for(name, config, entry.adapt(config, argument), min(num_envs, max(episodes, 1)))
    try:
        policy = entry.factory(envs, argument, first_seed)
        return evaluate(policy, envs, episodes=episodes, first_seed=first_seed, on_batch=on_batch)
    finally:
        envs.close()
