"""What the recorded environment rewards and ends, as the world's heads have learned it; in its twin as it really is."""

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
class World:
    """Live in the recorded environment: what its heads say was earned up to its end, latent by latent."""

    defaults: ClassVar[Defaults] = Defaults(
        action_mode="vector", max_episode_steps=-1, reads=("reward", "terminated"), recorded=True
    )
    shows: ClassVar[Mapping[str, Signal]] = {}

    def reset(self, start: Start) -> TaskState:
        """Remember nothing: the heads do."""
        return {}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Return what was earned in the chunk, that of the latent in which the episode ended included."""
        ended = chunk.signals["terminated"]
        before = ended.long().cumsum(1) - ended.long() > 0  # (B, F): latents behind the end
        reward = chunk.signals["reward"].double().masked_fill(before, 0).sum(1)
        done = ended.any(1)
        cut = chunk.signals.get("truncated")
        return Outcome(
            reward,
            done,
            torch.zeros_like(done),
            state,
            truncated=None if cut is None else cut.any(1),
        )

    def observe(
        self,
        state: TaskState,
        present: Signals,
    ) -> dict[str, Tensor]:
        """Show nothing beside the picture."""
        return {}
