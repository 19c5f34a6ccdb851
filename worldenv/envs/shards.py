"""Rows in shards: what shards are, and what they take and return, cut and joined by rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from ..dynamics.spec import WorldSpec
from .core import CoreConfig, EnvCore

Result = tuple[Any, dict[str, Tensor]]
"""Observation and info."""


@dataclass(frozen=True)
class Description:
    """What there is to know of a shard before it is reset."""

    spec: WorldSpec
    config: CoreConfig
    action_space: spaces.Space[Any]
    action_names: tuple[str, ...]
    observation_space: spaces.Space[Any]

    @classmethod
    def of(cls, core: EnvCore) -> Description:
        """Describe a core."""
        return cls(core.spec, core.config, core.action_space, core.action_names, core.observation_space)


class Shards(Protocol):
    """Cores of equally many rows each, called at the same time."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def call(
        self, function: Callable[..., Any], arguments: Mapping[int, tuple[Any, ...]]
    ) -> tuple[dict[int, Any], set[int]]:
        """Call ``function(core, *arguments)`` in some shards; return what they return, and those that have died.

        The dead are replaced. An error is raised when all are done.
        """
        ...

    def close(self) -> None:
        """End them all."""
        ...


def cut(action: Any, rows: slice) -> Any:
    """Return the rows of actions, which may be a dictionary."""
    if isinstance(action, dict):
        return {name: cut(part, rows) for name, part in action.items()}
    return action[rows]


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return torch.cat(parts)


def join_results(results: list[Result]) -> Result:
    """Put the rows of shards together."""
    return _join([obs for obs, _ in results]), _join([info for _, info in results])


def join_states(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join cloned states, whose rows remember differently much, into one: the shorter are filled up at their ends.

    Raises:
        ValueError: if they are of episodes that hold different things (some with prompts, some without).
    """
    joined = {}
    for name in parts[0]:
        tensors = [part[name] for part in parts if name in part]
        if len(tensors) < len(parts):
            raise ValueError(f"only some of these rows have {name}; clone them one actor at a time")
        sizes = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
        nothing = -1 if name == "engine.store.entry" else 0
        joined[name] = torch.cat([_fill(tensor, sizes, nothing) for tensor in tensors])
    return joined


def _fill(tensor: Tensor, sizes: Sequence[int], value: int) -> Tensor:
    """Fill a tensor (R, ...) up to sizes of its axes but the first."""
    missing = [pad for have, want in zip(tensor.shape[:0:-1], sizes[::-1], strict=True) for pad in (0, want - have)]
    return functional.pad(tensor, missing, value=value) if any(missing) else tensor
