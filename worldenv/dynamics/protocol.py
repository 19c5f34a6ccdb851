"""The one protocol that simulators and generated worlds share.

Tasks, environments, agents and evaluation suites step a ``Dynamics``, so each of them runs on the simulator and on the
generated world by swapping one argument. What only some can do are small protocols of their own, asked for by name
(``require``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from .signals import Signals, Track
from .spec import WorldSpec


@dataclass(frozen=True)
class Chunk:
    """What a world shows in answer."""

    frames: Tensor  # (B, T, H, W, 3) uint8
    signals: dict[str, Tensor] = field(default_factory=dict)
    """What is known beside, by the names that ``WorldSpec.gives`` declares: ``c2w`` (B, F, 4, 4) float64, the realised
    pose at the end of each latent (commanded where unknown); ``depth`` (B, T, H, W) float32, metres along z, from
    simulators of all frames, from worlds of the newest alone (T = 1); from simulators ``segmentation`` (B, T, H, W)
    uint8, 0 or 1 + the class of the goal object that is seen."""
    n_frames: Tensor | None = None  # (B,) int64: frames that are new, the last ones; None is all


class Dynamics(Protocol):
    """A batch of B worlds that advance in lockstep, or by rows."""

    spec: WorldSpec
    num_envs: int

    @property
    def present(self) -> dict[str, Tensor]:
        """Signals of the present moment, each (B, ...): where a camera is as ``c2w`` (B, 4, 4) float64."""
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

    def step(
        self,
        commands: Track,  # each (R, F, ...), what ``spec.takes`` declares
        rows: Sequence[int] | None = None,
    ) -> Chunk:
        """Advance some rows (all by default) as commanded; the chunk has as many rows.

        Simulators apply collisions and report where the camera really went.
        """
        ...


@runtime_checkable
class Followable(Protocol):
    """Can be driven along any path."""

    def follow(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Chunk:
        """Drive the camera along exactly this path, one pose per latent (a simulator teleports)."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """Can go on from pictures that it did not make."""

    def check_clip(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        track: Signals,  # each (B, F, ...)
    ) -> None:
        """Refuse clips that ``resume`` cannot go on from, by a ValueError."""
        ...

    def resume(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8: a start view, or a clip
        track: Signals,  # each (B, F, ...): what led to each latent, the start view first; what is missing is read off
        *,
        seeds: Sequence[int],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes that remember these frames and go on from their end."""
        ...

    def observe(
        self,
        frames: Tensor,  # (R, T, H, W, 3) uint8: a real chunk
        commands: Track,  # each (R, F, ...)
        rows: Sequence[int] | None = None,
    ) -> None:
        """Advance some rows by what really happened, in place of ``step``, which imagines it."""
        ...


@runtime_checkable
class Branchable(Protocol):
    """Can copy episodes, so that several go on from one moment."""

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice, by a ValueError."""
        ...

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows as a dictionary of tensors, each with a leading row axis."""
        ...

    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows, exactly as they would have gone on."""
        ...

    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows, with new random numbers if ``reseed`` holds seeds."""
        ...

    def identity(self) -> dict[str, object]:
        """Return what must agree where a state is to be restored: weights, memory, precision, sizes; plain values."""
        ...


@runtime_checkable
class Aimed(Protocol):
    """Can be told where episodes are to end."""

    def check_goals(
        self,
        goals: Tensor,  # (B, D)
    ) -> None:
        """Refuse goals where none can be, by a ValueError."""
        ...

    def set_goals(
        self,
        goals: Tensor | None,  # (B, D), or None to draw them from the seeds
    ) -> None:
        """Say where the goals of the episodes are that the next reset begins."""
        ...


@runtime_checkable
class Prompted(Protocol):
    """May be described in words."""

    @property
    def takes_prompts(self) -> bool:
        """Whether it is, as trained."""
        ...

    def encode_prompt(self, prompt: str) -> Tensor:
        """Return a prompt's embedding; a ValueError if there is none."""
        ...

    def set_prompt(self, prompt: str | Tensor, rows: Sequence[int] | None = None) -> None:
        """Describe the world of some rows (all by default) from the next chunk on."""
        ...


@runtime_checkable
class Latent(Protocol):
    """Has latents beside frames."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, (C, h, w)."""
        ...

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32."""
        ...


@runtime_checkable
class Explained(Protocol):
    """Tells what it remembered."""

    def explain(self) -> dict[str, Tensor]:
        """Return what the newest chunk attended to, tensors with a leading axis of rows."""
        ...


@runtime_checkable
class Doubting(Protocol):
    """Tells how far what it shows is to be trusted."""

    @property
    def doubts(self) -> bool:
        """Whether it was asked to; it costs time."""
        ...

    @property
    def uncertainty_limit(self) -> float:
        """What uncertainty seldom exceeds on recordings; 0 is not known."""
        ...

    def uncertainty(self) -> Tensor:
        """Return how far the newest chunk is to be doubted, (B,): 1 is as usual, 0 what was recorded."""
        ...

    def known(self) -> Tensor | None:
        """Return which share of the newest chunk was remembered, not invented, (B,), if that is known."""
        ...


@runtime_checkable
class Displayed(Protocol):
    """May show people more than its frames."""

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return pictures of frames (..., H, W, 3) uint8, as large or larger."""
        ...


def check_starts(seeds: Sequence[int], starts: Sequence[int | None], num_envs: int) -> None:
    """Refuse seeds and starts that are not one for each env, by a ValueError."""
    if len(seeds) != num_envs or len(starts) != num_envs:
        raise ValueError(f"got {len(seeds)} seeds and {len(starts)} starts for num_envs={num_envs}")


def check_rows(rows: Sequence[int], num_envs: int) -> None:
    """Refuse rows that do not exist or are named twice, and none at all, by a ValueError."""
    if not rows or len(set(rows)) != len(rows) or any(not 0 <= row < num_envs for row in rows):
        raise ValueError(f"rows {list(rows)} must be different ones of 0..{num_envs - 1}")


def check_fork(source: Sequence[int], rows: Sequence[int], reseed: Sequence[int] | None, num_envs: int) -> None:
    """Refuse forks of rows that do not exist, onto themselves, or of another number, by a ValueError."""
    if len(source) != len(rows) or set(source) & set(rows):
        raise ValueError(f"cannot fork rows {list(source)} onto {list(rows)}; name as many others, each once")
    if reseed is not None and len(reseed) != len(rows):
        raise ValueError(f"reseed holds {len(reseed)} seeds for {len(rows)} rows")
    check_rows(rows, num_envs)
    for row in source:
        check_rows([row], num_envs)


C = TypeVar("C")
CAN: dict[type, str] = {
    Followable: "follows a path",
    Resumable: "goes on from pictures",
    Branchable: "copies episodes",
    Prompted: "takes prompts",
    Latent: "has latents",
    Explained: "has a memory to explain",
    Doubting: "tells how far it is to be trusted",
}


def require(dynamics: object, capability: type[C], what: str) -> C:
    """Return the dynamics as something that can, or say that ``what`` needs one.

    Raises:
        ValueError: if it cannot.
    """
    if not isinstance(dynamics, capability):
        name = type(dynamics).__name__
        raise ValueError(
            f"{what} needs a generated world, or another that {CAN[capability]}; {name} does not: use dynamics='world'"
        )
    return dynamics
