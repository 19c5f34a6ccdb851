"""Make the table glow; how bright it has been so far is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Signal, Signals
from worldenv.tasks.base import Defaults, Outcome, Start, TaskState


@dataclass(frozen=True, kw_only=True)
class Glow:
    """Be rewarded for red; the brightest so far is an observation of its own."""

    defaults: ClassVar[Defaults] = Defaults(obs_mode="dict", obs_keys=("image", "brightest"), max_episode_steps=4)
    shows: ClassVar[Mapping[str, Signal]] = {"brightest": Signal(shape=(1,), low=0.0, high=1.0)}

    def reset(self, start: Start) -> TaskState:
        return {"brightest": red(start.frames)}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        now = red(chunk.frames[:, -1])
        never = torch.zeros(len(now), dtype=torch.bool)
        return Outcome(now, never, never, {"brightest": torch.maximum(state["brightest"], now)})

    def observe(self, state: TaskState, present: Signals) -> dict[str, Tensor]:
        return {"brightest": state["brightest"][:, None].float()}


def red(
    frames: Tensor,  # (B, H, W, 3) uint8
) -> Tensor:
    """Return the mean of the red channel, (B,) float64 in 0..1."""
    return frames[..., 0].double().mean((1, 2)) / 255
