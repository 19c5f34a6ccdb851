"""The one protocol that simulators and generated worlds share.

Tasks, environments, agents and evaluation suites step a ``Dynamics``, so each of them runs on the simulator and on the
generated world by swapping one argument. What only a generated world has (memory, latents, clones, prompts) is asked of
``engine.Engine`` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .spec import WorldSpec


@dataclass(frozen=True)
class Actions:
    """One chunk of commands for every env."""

    keys: Tensor  # (B, F, 2) int64: translation and rotation code per latent
    c2w: Tensor  # (B, F, 4, 4) float64: commanded pose at the end of each latent


@dataclass(frozen=True)
class Chunk:
    """What a world shows in answer."""

    frames: Tensor  # (B, T, H, W, 3) uint8
    c2w: Tensor  # (B, F, 4, 4) float64: realised pose at the end of each latent (commanded where unknown)
    depth: Tensor | None = None  # (B, T, H, W) float32 metres along z, or None
    n_frames: Tensor | None = None  # (B,) int64: frames that are new, the last ones; None is all
    segmentation: Tensor | None = None  # (B, T, H, W) uint8: 0, or 1 + the class of the goal object that is seen


class Dynamics(Protocol):
    """A batch of B worlds that advance in lockstep."""

    spec: WorldSpec
    num_envs: int

    @property
    def c2w(self) -> Tensor:
        """Current pose of each env, (B, 4, 4) float64."""
        ...

    def reset(
        self,
        *,
        seeds: Sequence[int],  # one per env: everything random in that env follows from it
        starts: Sequence[int | None],  # index of a start view, or None to draw one from the seed
        mask: Tensor | None = None,  # (B,) bool: which envs to reset; None is all
    ) -> Chunk:
        """Begin new episodes; the chunk holds the start view alone, T = 1, F = 1 (rows not reset: their last view)."""
        ...

    def step(self, actions: Actions) -> Chunk:
        """Move as commanded: simulators apply collisions and report where the camera really went."""
        ...

    def follow(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Chunk:
        """Drive the camera along exactly this path, one pose per latent (a simulator teleports)."""
        ...
