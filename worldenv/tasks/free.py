"""Nothing to do: no reward and no end, in any world; what is done there is up to whoever plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from .base import Defaults, Outcome, Start, TaskState


@dataclass(frozen=True, kw_only=True)
class Free:
    """Be in a world, of whatever kind: nothing is read, paid or ended."""

    defaults: ClassVar[Defaults] = Defaults(max_episode_steps=-1)
    shows: ClassVar[Mapping[str, Signal]] = {}

    def reset(self, start: Start) -> TaskState:
        """Remember nothing."""
        return {}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Judge nothing."""
        never = torch.zeros(len(chunk.frames), dtype=torch.bool)
        return Outcome(never.double(), never, never, state)

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show nothing beside the picture."""
        return {}
