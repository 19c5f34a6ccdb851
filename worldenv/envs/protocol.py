"""What the shells step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gymnasium import spaces
from torch import Tensor

from ..base.checkpoint import Expected
from ..dynamics.signals import Signals
from ..dynamics.spec import WorldSpec
from .core import CoreConfig, Transition


class Core(Protocol):
    """What a shell steps: B episodes in this process (``EnvCore``), or in others (``sharded.ShardedCore``)."""

    spec: WorldSpec
    num_envs: int
    config: CoreConfig
    action_space: spaces.Space[Any]
    action_names: tuple[str, ...]
    observation_space: spaces.Space[Any]

    @property
    def frames(self) -> Tensor | None:
        """The newest chunk, (B, T, H, W, 3) uint8; nothing before the first reset."""
        ...

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor,  # (B,) bool
        images: Tensor | None = None,  # (B, H, W, 3) uint8
        prompts: Sequence[str | None] = (),
        clip: tuple[Tensor, Signals] | None = None,  # (B, T, H, W, 3) uint8 and signals, each (B, F, ...)
        goals: Tensor | None = None,  # (B, D)
    ) -> tuple[Any, dict[str, Tensor]]:
        """Begin new episodes in the masked rows; return observation and info of all rows."""
        ...

    def check_reset(
        self,
        starts: Sequence[int | None],
        images: Tensor | None,
        prompts: Sequence[str | None] = (),
        clip: tuple[Tensor, Signals] | None = None,
        goals: Tensor | None = None,
    ) -> None:
        """Refuse what no episode can begin with."""
        ...

    def set_prompts(self, prompts: Mapping[int, str]) -> None:
        """Describe the worlds of some rows anew."""
        ...

    def step(self, action: Any) -> Transition:
        """Advance every env by one chunk."""
        ...

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice, and simulators."""
        ...

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows."""
        ...

    def restore_state(
        self, state: Mapping[str, Tensor], rows: Sequence[int], *, shell: Mapping[str, Expected] | None = None
    ) -> None:
        """Continue cloned episodes in these rows."""
        ...

    def fork(self, source: Sequence[int], rows: Sequence[int], reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows."""
        ...

    def identity(self) -> dict[str, object]:
        """Return what a saved state has to be of."""
        ...

    def depth(self) -> Tensor:
        """Return the newest view's depth, (B, H, W)."""
        ...

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as people are shown them."""
        ...

    def close(self) -> None:
        """Stop what runs."""
        ...
