"""Imagined episodes, as many steps of each, for a learner that goes over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from torch import Tensor

from .recurrent import Recurrent

Seen = Any
"""Observations as networks take them: a tensor, or a dictionary of them."""


@dataclass(frozen=True)
class Imagined:
    """H steps of B envs."""

    seen: Seen  # (H, B, ...)
    after: Seen  # (H, B, ...): what each step led to, where an episode ended its last observation
    actions: Tensor  # (H, B, ...) before they were clipped
    log_prob: Tensor  # (H, B) of the actions
    reward: Tensor  # (H, B)
    terminated: Tensor  # (H, B) bool
    ended: Tensor  # (H, B) bool: terminated or truncated
    success: float  # share of the episodes that ended which succeeded


@torch.no_grad()
def imagine(envs: VectorEnv[Any, Any, Any], network: Recurrent, *, seeds: list[int], steps: int) -> Imagined:
    """Begin an episode in every env and act as the policy does; where one ends the next begins."""
    obs, _ = envs.reset(seed=seeds)  # type: ignore[arg-type]  # ours takes a seed per row
    memory, space = torch.zeros(envs.num_envs, network.memory, device=network.device), envs.single_action_space
    lived: list[tuple[Any, ...]] = []
    succeeded: list[float] = []
    for _ in range(steps):
        seen = network.obs_to_tensor(obs)[0]
        features = network.see(seen)
        memory = network.remember(features, memory)
        distribution, _ = network.heads(features, memory)
        drawn = distribution.get_actions()
        action = drawn.cpu().numpy().reshape(-1, *(space.shape or ()))
        if isinstance(space, spaces.Box):
            action = np.clip(action, space.low, space.high)
        obs, reward, terminated, truncated, info = envs.step(action)
        ended = terminated | truncated
        if ended.any():
            succeeded += info["final_info"]["is_success"][ended].tolist()
        signals = (torch.as_tensor(x, device=network.device) for x in (reward.astype(np.float32), terminated, ended))
        after = network.obs_to_tensor(with_last(obs, info))[0]
        lived.append((seen, after, drawn, distribution.log_prob(drawn), *signals))
        memory = memory * ~lived[-1][-1][:, None]
    seen, after, drawn, log_prob, reward, terminated, ended = (stacked(parts) for parts in zip(*lived, strict=True))
    return Imagined(seen, after, drawn, log_prob, reward, terminated, ended, float(np.mean(succeeded or 0)))


def with_last(obs: Any, info: dict[str, Any]) -> Any:
    """Return observations with the last ones of the episodes that ended in the place of the first ones of the next."""
    last = {row: info["final_obs"][row] for row in np.flatnonzero(info.get("_final_obs", ())).tolist()}
    if isinstance(obs, dict):
        return {key: _put(part, {row: whole[key] for row, whole in last.items()}) for key, part in obs.items()}
    return _put(obs, last)


def _put(obs: Any, last: dict[int, Any]) -> Any:
    changed = obs.copy()
    for row, part in last.items():
        changed[row] = part
    return changed


def stacked(parts: tuple[Seen, ...]) -> Seen:
    """Return observations of one step after another as one, (H, ...)."""
    if isinstance(parts[0], dict):
        return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
    return torch.stack(parts)


def each(function: Callable[[Tensor], Tensor], seen: Seen) -> Seen:
    """Apply a function to observations."""
    return {key: function(part) for key, part in seen.items()} if isinstance(seen, dict) else function(seen)


def lambda_returns(
    reward: Tensor,  # (H, B)
    ahead: Tensor,  # (H, B): what a critic expects after each step
    terminated: Tensor,  # (H, B) bool
    ended: Tensor,  # (H, B) bool: also where an episode was cut off, which the critic continues
    *,
    gamma: float,
    trace: float,
) -> Tensor:
    """Return what each step leads to, (H, B): the mean of n-step returns, each counting ``trace`` times the one before,
    that end with the episode or with what was imagined.
    """
    returns, later = [], ahead[-1]
    for t in reversed(range(len(reward))):
        share = trace * (~ended[t])
        later = reward[t] + gamma * (~terminated[t]) * ((1 - share) * ahead[t] + share * later)
        returns.append(later)
    return torch.stack(returns[::-1])
