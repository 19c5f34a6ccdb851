"""Episodes that are copied: cloned, forked, saved, and gone on with to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors
from ..dynamics.protocol import Branchable, Chunk, Dynamics, require
from ..geometry.pose import is_rigid
from ..tasks.base import Task, TaskState

MOST_COUNTED = 2**53
"""Steps and episodes that a row may have behind it."""


class CopiedEpisodes:
    """What of a core makes copies: its dynamics', its task's and its own state."""

    dynamics: Dynamics
    task: Task
    num_envs: int
    state: TaskState
    chunk: Chunk | None

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice, and simulators."""
        require(self.dynamics, Branchable, "a cloned state").check_rows(rows)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows: memory, decoder, generators, task and clock.

        Raises:
            ValueError: for a simulator, whose engines cannot be copied.
        """
        index = torch.tensor(list(rows))
        own = {f"core.{k}": v for k, v in self._parts().items()} | {f"task.{k}": v for k, v in self.state.items()}
        engine = require(self.dynamics, Branchable, "a cloned state").clone_state(rows)
        return {k: v[index].clone() for k, v in own.items()} | {f"engine.{k}": v for k, v in engine.items()}

    def state_bytes(self) -> float:
        """Return what an env remembers by now, keys and values of its context aside, on average over all."""
        state = self.clone_state(range(self.num_envs))
        return sum(part.numel() * part.element_size() for part in state.values()) / self.num_envs

    def fork(self, source: Sequence[int], rows: Sequence[int], reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows; see ``Engine.fork``."""
        require(self.dynamics, Branchable, "a fork").fork(source, rows, reseed=reseed)
        a, b = torch.tensor(list(source)), torch.tensor(list(rows))
        for name, value in self._parts().items():
            setattr(self, name, value.index_copy(0, b, value[a]))
        self.state = {name: value.index_copy(0, b, value[a]) for name, value in self.state.items()}

    def restore_state(
        self, state: Mapping[str, Tensor], rows: Sequence[int], *, shell: Mapping[str, Expected] | None = None
    ) -> None:
        """Continue cloned episodes in these rows, exactly as they would have gone on.

        Args:
            state: what was cloned.
            rows: as many rows.
            shell: what the caller has put into the state, and will read, itself.

        Raises:
            ValueError: if the state is of another task or observation mode, or of another number of rows, or damaged;
                then nothing has changed.
        """
        dynamics, parts = require(self.dynamics, Branchable, "a cloned state"), self._parts()
        index = torch.tensor(list(rows))
        own = {f"core.{k}": v for k, v in parts.items()} | {f"task.{k}": v for k, v in self.state.items()}
        expected: dict[str, Expected] = {k: (v.dtype, ("R", *v.shape[1:])) for k, v in own.items()} | dict(shell or {})
        found = {k: v for k, v in state.items() if not k.startswith("engine.")}
        if expected.keys() != found.keys():
            wrong = ", ".join(sorted(expected.keys() ^ found.keys()))
            raise ValueError(f"the state is of another environment: {wrong} do not match")
        if state["core.elapsed"].ndim and len(state["core.elapsed"]) != len(rows):
            raise ValueError(f"the state holds {len(state['core.elapsed'])} rows, {len(rows)} were named")
        self.check_rows(rows)
        check_tensors(found, expected, where="the state", R=len(rows))
        if not bool(((state["core.elapsed"] >= 0) & (state["core.elapsed"] <= MOST_COUNTED)).all()):
            raise ValueError("the state: core.elapsed holds what no episode has; the file was damaged or edited")
        for name, value in found.items():
            if name.startswith("task.") and name.endswith("c2w") and not is_rigid(value):
                raise ValueError(f"the state: {name} holds no rigid motion; the file was damaged or edited")
        inner = {k.removeprefix("engine."): v for k, v in state.items() if k.startswith("engine.")}
        dynamics.restore_state(inner, rows)
        self.chunk = None
        for name, value in parts.items():
            changed = value.clone()  # what was handed out is never written again
            changed[index] = state[f"core.{name}"]
            setattr(self, name, changed)
        for name, value in self.state.items():
            self.state[name] = value.clone()
            self.state[name][index] = state[f"task.{name}"]

    def _parts(self) -> dict[str, Tensor]:
        named = {name: getattr(self, name) for name in ("elapsed", "frames", "stacked", "latents")}
        return {name: value for name, value in named.items() if value is not None}
