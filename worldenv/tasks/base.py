"""The task protocol: reward, termination and goal from frames and signals, never from the world's insides.

A task is a frozen dataclass without state; what it must remember of an episode is a dictionary of tensors with a
leading env axis, so that rows can be reset, cloned and restored by indexing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec

TaskState = dict[str, Tensor]
"""Per-env memory of a task, each tensor (B, ...)."""


@dataclass(frozen=True)
class Start:
    """Where episodes begin."""

    frames: Tensor  # (B, H, W, 3) uint8
    present: Signals  # each (B, ...): where that is
    goal: Signals  # each (B, ...): where to go, empty in worlds that propose nothing
    K: Tensor | None = None  # (3, 3) pixels, of worlds with a camera
    seeds: tuple[int, ...] = ()  # one per env: what is random in a task follows from it


@dataclass(frozen=True)
class Outcome:
    """What a step brought."""

    reward: Tensor  # (B,) float64
    terminated: Tensor  # (B,) bool
    success: Tensor  # (B,) bool
    state: TaskState
    truncated: Tensor | None = None  # (B,) bool: episodes that are cut off beside those whose time is up

    @classmethod
    def by_potential(
        cls,
        state: TaskState,
        potential: Tensor,  # (B,) float64
        done: Tensor,  # (B,) bool
    ) -> Outcome:
        """Reward the potential gained since the last step (Ng et al. 1999), and 1 for success, which ends the episode.

        ``state["potential"]`` is that of the last step, and becomes this one's.
        """
        reward = potential - state["potential"] + done.double()
        return cls(reward, done, done, {**state, "potential": potential})


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What an environment with a task is like unless it is asked to be otherwise."""

    obs_mode: str = "image"
    """How it is seen."""
    obs_keys: tuple[str, ...] = ("image",)
    """What ``dict`` observations hold."""
    action_mode: str = "basic"
    """How it is acted in, by a body that has this mode; others have a first one."""
    max_episode_steps: int = 64
    """Chunks after which an episode ends."""
    max_episode_latents: int | None = None
    """Latents after which it ends instead, so that it takes as long whatever a chunk is."""
    reads: tuple[str, ...] = ()
    """Signals of the present moment that it cannot do without."""
    learned: tuple[str, ...] = ()
    """What generated worlds give instead of what it reads, where it makes do with that: heads read it off pictures."""
    needs_goal: bool = False
    """Whether an episode has a goal from its start."""
    recorded: bool = False
    """Whether its time limit is that of the environment that the world was recorded from."""
    explains: tuple[str, ...] = ()
    """What a world with a memory explains of it (``Explained``) and puts into ``info`` unasked, behind ``memory_``."""
    world: str = "maze"
    """The packaged world that it is about, which is stepped where none is named."""
    simulator: str = ""
    """A name in ``sims.registry.SIMULATORS`` where its ids on ground truth need no world; "" is the world's twin."""
    from_clip: bool = False
    """Whether an episode begins at the end of a recorded clip, which is remembered, instead of with one view."""


class Task(Protocol):
    """Reward, termination and own observations of a batch of episodes."""

    defaults: ClassVar[Defaults]
    """Of environments with it."""
    shows: ClassVar[Mapping[str, Signal]]
    """What ``observe`` returns, by its key in ``dict`` observations."""

    def reset(self, start: Start) -> TaskState:
        """Return the state of fresh episodes."""
        ...

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Judge one chunk."""
        ...

    def observe(
        self,
        state: TaskState,
        present: Signals,  # each (B, ...): where the agent is
    ) -> dict[str, Tensor]:
        """Return what the task shows now, each (B, ...), beside the picture."""
        ...


@runtime_checkable
class GoalConditioned(Protocol):
    """A task whose reward follows from what was achieved and what was desired, for other goals too (hindsight replay,
    Andrychowicz et al. 2017): the form of Gymnasium-Robotics' ``GoalEnv``.
    """

    shows: ClassVar[Mapping[str, Signal]]
    """``achieved_goal`` and ``desired_goal`` among them."""

    @property
    def by_goals(self) -> bool:
        """Whether its reward does so as its options are."""
        ...

    def compute_reward(
        self,
        achieved: Tensor,  # (..., D)
        desired: Tensor,  # (..., D)
    ) -> Tensor:
        """Return the reward of being there, (...) float64."""
        ...


@runtime_checkable
class Commanding(Protocol):
    """A task that acts itself at times."""

    def command(
        self,
        state: TaskState,
        commanded: Track,  # each (B, F, ...): what the agent asks for
        present: Signals,  # each (B, ...)
        spec: WorldSpec,
    ) -> Track:
        """Return the commands of the coming chunk."""
        ...
