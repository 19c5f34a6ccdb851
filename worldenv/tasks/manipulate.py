"""What the tasks of hands have in common: an object, where its centre is to be, and the potential of being nearer."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..base.config import check_numbers
from ..bodies.hand_model import NUM_JOINTS
from ..dynamics.protocol import Chunk
from ..dynamics.signals import Signal, Signals
from .base import Defaults, Outcome, Start, TaskState

PLACE = Signal(shape=(3,), low=-2.0, high=2.0)
"""On the table, metres."""
FREE = Signal(shape=(3,), low=-1000.0, high=1000.0)
"""Where an object may get to."""


@dataclass(frozen=True, kw_only=True)
class Manipulate(abc.ABC):
    """Bring the object's centre to ``goal``, x, y, z of the table's frame in metres; subclasses say when it is done."""

    defaults: ClassVar[Defaults] = Defaults(
        obs_mode="dict",
        obs_keys=("image", "palm", "proprio", "goal"),
        action_mode="ee_delta",
        max_episode_latents=36,
        reads=("object", "contact", "keypoints", "target"),
        learned=("object_read", "keypoints"),
        world="hand",
        simulator="hand/tray",
    )
    shows: ClassVar[Mapping[str, Signal]] = {
        "goal": PLACE,
        "desired_goal": PLACE,  # this and what follows as Gymnasium-Robotics' GoalEnv calls it
        "achieved_goal": FREE,
        "observation": Signal(shape=(2 * NUM_JOINTS,), low=-1000.0, high=1000.0),
    }

    distance_scale: float = 0.1
    """Metres between object and goal that are worth 1 of potential."""
    reach_weight: float = 0.25
    """How much a metre between hand and object counts beside one between object and goal."""
    reward: Literal["potential", "sparse"] = "potential"
    """``potential`` gained, and 1 for success; or ``sparse``: 0 where the object's centre is ``near`` its goal, else
    -1, which can be computed anew for other goals (``compute_reward``)."""
    near: float = 0.04
    """Metres that are near."""

    FARTHEST: ClassVar[float] = 1.0
    """Metres beyond which distances count no more: an object that falls off the table falls on."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("distance_scale", "near"), natural=("reach_weight",))

    def reset(self, start: Start) -> TaskState:
        """Remember where the object stands and is to go, and the potential of that."""
        thing = position(start.present)
        target = start.present["target"] if "target" in start.present else start.goal["target"]
        goal = self.goal(thing, target.double())
        potential = self.potential(thing, start.present["keypoints"].double(), goal)
        return {"goal": goal, "rest": thing[:, 2].clone(), "highest": thing[:, 2].clone(), "potential": potential}

    def goal(
        self,
        thing: Tensor,  # (B, 3) where the object stands at the start
        target: Tensor,  # (B, 3) where tray or mark are
    ) -> Tensor:
        """Return where the object's centre is to be, (B, 3): as high as it stands, over tray or mark."""
        return torch.cat([target[:, :2], thing[:, 2:]], -1)

    def potential(
        self,
        thing: Tensor,  # (B, 3)
        points: Tensor,  # (B, 21, 3) the hand's keypoints
        goal: Tensor,  # (B, 3)
    ) -> Tensor:
        """Return minus the distances of object to goal and of hand to object, (B,)."""
        reach, way = ((a - thing).norm(dim=-1).clamp(max=self.FARTHEST) for a in (points.mean(1), goal))
        return -(way + self.reach_weight * reach) / self.distance_scale

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        """Reward the potential gained, and 1 when it is done, which ends the episode."""
        way = position(chunk.signals)  # (B, F, 3)
        new = {**state, "highest": torch.maximum(state["highest"], way[..., 2].max(1).values)}
        last = {name: chunk.signals[name][:, -1] for name in self.shown_by(chunk.signals)}
        thing, (speed, touched) = way[:, -1], motion(last)
        done = self.done(new, thing, speed, touched)
        outcome = Outcome.by_potential(new, self.potential(thing, last["keypoints"].double(), state["goal"]), done)
        return replace(outcome, reward=self.compute_reward(thing, state["goal"])) if self.by_goals else outcome

    @property
    def by_goals(self) -> bool:
        """Whether the reward follows from places; potential is gained on the way."""
        return self.reward == "sparse"

    def compute_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Return the sparse reward of the object's centre at one place, (..., 3), where it was to be at another."""
        return ((achieved - desired).norm(dim=-1) < self.near).double() - 1

    @classmethod
    def shown_by(cls, signals: Signals) -> tuple[str, ...]:
        """Name what is read of these signals: a simulator's state, or what a world's head says."""
        return cls.defaults.reads if "object" in signals else cls.defaults.learned

    @abc.abstractmethod
    def done(
        self,
        state: TaskState,
        thing: Tensor,  # (B, 3)
        speed: Tensor,  # (B,)
        touched: Tensor,  # (B,) bool: whether the hand touches it
    ) -> Tensor:
        """Return in which episodes the object is where it is to be, (B,) bool."""

    def observe(self, state: TaskState, present: Signals) -> dict[str, Tensor]:
        """Show where the object is to go, and where it is; and the robot, as ``proprio`` does."""
        goal, robot = state["goal"].float(), present["proprio"].clone()
        reached = position(present).float()
        return {"goal": goal, "desired_goal": goal.clone(), "achieved_goal": reached, "observation": robot}


def position(signals: Signals) -> Tensor:
    """Return where the object's centre is, (..., 3) float64: as the simulator knows it, or a world's head reads it."""
    known = signals["object"] if "object" in signals else signals["object_read"]
    return known[..., :3].double()


def motion(signals: Signals) -> tuple[Tensor, Tensor]:
    """Return how fast the object is, (...), and whether the hand touches it, (...) bool."""
    if "object" in signals:
        return signals["object"][..., 7:10].double().norm(dim=-1), signals["contact"].any(-1)
    read = signals["object_read"]
    return read[..., 3].double(), read[..., 4] > 0.5


def lies(
    state: TaskState,
    thing: Tensor,  # (B, 3)
    speed: Tensor,  # (B,)
    *,
    within: float,
) -> Tensor:
    """Return which objects lie still near their goal, (B,) bool; on a tray they lie a bit higher than at the start."""
    near = (thing - state["goal"])[:, :2].norm(dim=-1) < within
    return near & (thing[:, 2] < state["rest"] + 0.016) & (speed < 0.12)
