"""The task protocol: reward, termination and goal from frames and poses, never from the world's insides.

A task is a frozen dataclass without state; what it must remember of an episode is a dictionary of tensors with a
leading env axis, so that rows can be reset, cloned and restored by indexing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..dynamics.protocol import Chunk

TaskState = dict[str, Tensor]
"""Per-env memory of a task, each tensor (B, ...)."""


@dataclass(frozen=True)
class Start:
    """Where episodes begin."""

    frames: Tensor  # (B, H, W, 3) uint8
    c2w: Tensor  # (B, 4, 4) float64
    goal: Tensor  # (B, 4, 4) float64


@dataclass(frozen=True)
class Outcome:
    """What a step brought."""

    reward: Tensor  # (B,) float64
    terminated: Tensor  # (B,) bool
    success: Tensor  # (B,) bool
    state: TaskState


class Task(Protocol):
    """Reward and termination of a batch of episodes."""

    def reset(self, start: Start) -> TaskState:
        """Return the state of fresh episodes."""
        ...

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Judge one chunk."""
        ...
