"""What plans are imagined to bring: a tree of branches of a world, in which equal beginnings are imagined once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldenv.bodies.base import Body
from worldenv.dynamics.protocol import Chunk, Dynamics
from worldenv.dynamics.signals import Track
from worldenv.envs.core import EnvCore
from worldenv.tasks.base import Commanding, Outcome, Task, TaskState

from .sequences import Floats, Plans, as_actions

Value = Callable[[Chunk, TaskState], Tensor]
"""What is still to come, (R,), where a plan ends: after a chunk of R rows, and what the task remembers of them."""


class Branching(Dynamics, Protocol):
    """Rows that can go on from one another, and take in what really happened: an ``Engine``, or ``copied.Copied``."""

    def observe(self, frames: Tensor, commands: Track, rows: Sequence[int] | None = None) -> None:
        """Take in a real chunk of some rows."""
        ...

    def fork(self, source: Sequence[int], rows: Sequence[int]) -> None:
        """Let rows go on from other rows."""
        ...


def act(
    dynamics: Dynamics,
    body: Body,
    task: Task,
    mode: str,
    actions: Tensor,  # (R, ...)
    state: TaskState,  # of these rows
    rows: Sequence[int],
) -> tuple[Track, Chunk, Outcome]:
    """Advance some rows of a world or a simulator by an action each, and judge it, as ``EnvCore.step`` does all."""
    present = {name: part[list(rows)] for name, part in dynamics.present.items()}
    commanded = body.command(actions, mode, present, dynamics.spec)
    if isinstance(task, Commanding):
        commanded = task.command(state, commanded, present, dynamics.spec)
    chunk = dynamics.step(commanded, rows=list(rows))
    return commanded, chunk, task.step(state, chunk)


@dataclass(frozen=True)
class Node:
    """A beginning of plans that was imagined."""

    row: int
    earned: float
    ended: bool
    state: TaskState  # each (1, ...)


class Tree:
    """Branches of E episodes, whose own rows are the first; each has ``room`` rows to branch into.

    Noise is not drawn anew: branches with the same actions are the same to the last bit, and those that part differ by
    what was done. So a beginning that plans share is imagined once, and returns are compared under common random
    numbers.
    """

    def __init__(
        self, dynamics: Branching, like: EnvCore, *, episodes: int, discount: float, value: Value | None = None
    ) -> None:
        self.dynamics, self.body, self.task, self.mode = dynamics, like.body, like.task, like.config.action_mode
        self.space, self.discount, self.value = like.action_space, discount, value
        self.episodes, self.room = episodes, dynamics.num_envs // episodes - 1
        self.imagined = 0
        self._nodes: dict[int, dict[bytes, Node]] = {}
        self._used: dict[int, int] = {}

    def begin(self, episodes: Sequence[int], state: TaskState) -> None:
        """Let go of all branches; new ones go on from where these episodes are, with the task's states (E, ...)."""
        at = {name: part.clone() for name, part in state.items()}
        roots = {e: Node(e, 0.0, False, {name: part[e : e + 1] for name, part in at.items()}) for e in episodes}
        self._nodes, self._used = {e: {b"": root} for e, root in roots.items()}, dict.fromkeys(episodes, 0)

    def returns(self, episodes: list[int], plans: Plans) -> Floats:
        """Imagine plans (E, N, H, A) of episodes; return the discounted sum of their rewards, (E, N)."""
        for depth in range(plans.shape[2]):
            wanted: dict[tuple[int, bytes], tuple[Node, Plans]] = {}
            for e, some in zip(episodes, plans, strict=True):
                for plan in some:
                    parent, key = self._nodes[e][_key(plan, depth)], _key(plan, depth + 1)
                    if parent.ended:
                        self._nodes[e][key] = parent
                    elif key not in self._nodes[e]:
                        wanted[e, key] = parent, plan[depth]
            if wanted:
                self._grow(wanted, depth, last=depth + 1 == plans.shape[2])
        ends = [[self._nodes[e][_key(plan, len(plan))].earned for plan in some] for e, some in zip(episodes, plans)]
        return np.array(ends, np.float64)

    def _grow(self, wanted: dict[tuple[int, bytes], tuple[Node, Plans]], depth: int, *, last: bool) -> None:
        """Imagine one more step behind some nodes."""
        rows = [self._free(e) for e, _ in wanted]
        parents = [parent for parent, _ in wanted.values()]
        self.dynamics.fork([parent.row for parent in parents], rows)
        actions = torch.as_tensor(as_actions(self.space, np.stack([step for _, step in wanted.values()])))
        state = {name: torch.cat([p.state[name] for p in parents]) for name in parents[0].state}
        _, chunk, outcome = act(self.dynamics, self.body, self.task, self.mode, actions, state, rows)
        self.imagined += len(rows)
        reward = outcome.reward.clone()
        if last and self.value is not None:
            reward += self.discount * self.value(chunk, outcome.state) * ~outcome.terminated
        for i, (e, key) in enumerate(wanted):
            gained = parents[i].earned + self.discount**depth * float(reward[i])
            after = {name: part[i : i + 1] for name, part in outcome.state.items()}
            self._nodes[e][key] = Node(rows[i], gained, bool(outcome.terminated[i]), after)

    def _free(self, episode: int) -> int:
        """Return a row of an episode that no branch lies in."""
        used = self._used[episode]
        assert used < self.room, "plans need more rows than rollouts * lookahead"
        self._used[episode] = used + 1
        return self.episodes + episode * self.room + used


def _key(plan: Plans, depth: int) -> bytes:
    """Name the beginning of a plan."""
    return np.ascontiguousarray(plan[:depth]).tobytes()
