"""One core over several: the rows of a batch are shared among shards, each of which is a core somewhere else.

A shard that dies is replaced. Its rows are truncated: they show what they last showed, and begin anew in the next
reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..base.checkpoint import Expected
from ..dynamics.protocol import check_fork, check_rows
from .beginning import Beginning
from .core import EnvCore, Transition
from .shards import Description, Result, Shards, cut, join_results, join_states

T = TypeVar("T")


class ShardedCore:
    """Steps the rows of several shards in lockstep, as one core of all their rows would."""

    def __init__(self, shards: Shards, num_rows: int) -> None:
        self.shards, self.num_rows, self.num_envs = shards, num_rows, num_rows * len(shards)
        told: Description = self._one(Description.of)
        self.spec, self.config = told.spec, told.config
        self.action_space, self.action_names = told.action_space, told.action_names
        self.observation_space = told.observation_space
        self._shown: list[Result | None] = [None] * len(shards)  # what each shard returned last
        self._fresh = [True] * len(shards)  # those that have not begun
        self._ended = [False] * len(shards)  # those whose rows are to be truncated in the next step
        self.lost = torch.zeros(self.num_envs, dtype=torch.bool)  # rows whose episodes the last step lost

    def _rows(self, shard: int) -> slice:
        return slice(shard * self.num_rows, (shard + 1) * self.num_rows)

    def _call(
        self, function: Callable[..., Any], arguments: Mapping[int, tuple[Any, ...]]
    ) -> tuple[dict[int, Any], set[int]]:
        results, dead = self.shards.call(function, arguments)
        for shard in dead:
            self._ended[shard] |= not self._fresh[shard]
            self._fresh[shard] = True
        return results, dead

    def _all(self, function: Callable[..., T], arguments: Mapping[int, tuple[Any, ...]]) -> dict[int, T]:
        """Call what a shard that dies cannot do.

        Raises:
            ChildProcessError: if one does; its episodes are gone, and the next step truncates them.
        """
        results, dead = self._call(function, arguments)
        if dead:
            rows = self._rows(min(dead))
            raise ChildProcessError(
                f"the actor of rows {rows.start} to {rows.stop - 1} died, and their episodes with it; another one is "
                "there: step() truncates these rows and goes on, reset() begins anew"
            )
        return results

    def _one(self, function: Callable[..., T], *arguments: Any) -> T:
        """Ask the first shard what all would say."""
        return self._all(function, {0: arguments})[0]

    def _of_rows(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """Return the shards of some rows, and where in ``rows`` theirs stand."""
        self.check_rows(rows)
        places: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row // self.num_rows, []).append(place)
        return places

    def _within(self, rows: Sequence[int], places: Sequence[int]) -> list[int]:
        return [rows[place] % self.num_rows for place in places]

    @property
    def frames(self) -> Tensor | None:
        """The newest chunk, (B, T, H, W, 3) uint8."""
        if any(shown is None for shown in self._shown):
            return None
        return torch.cat(self._everywhere(_frames))

    def depth(self) -> Tensor:
        """Return the newest view's depth, (B, H, W) float32 metres along z."""
        return torch.cat(self._everywhere(EnvCore.depth))

    def _everywhere(self, function: Callable[..., T]) -> list[T]:
        results = self._all(function, dict.fromkeys(range(len(self.shards)), ()))
        return [results[shard] for shard in sorted(results)]

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as people are shown them."""
        return self._one(EnvCore.enlarge, frames)

    def identity(self) -> dict[str, object]:
        """Return what a saved state has to be of."""
        return self._one(EnvCore.identity)

    def check_reset(self, begin: Beginning) -> None:
        """Refuse what no episode can begin with, before anything changes."""
        calls = {shard: (begin.at(self._rows(shard)),) for shard in range(len(self.shards))}
        _, dead = self._call(EnvCore.check_reset, calls)
        self._all(EnvCore.check_reset, {shard: calls[shard] for shard in dead})

    def reset(
        self,
        begin: Beginning,
        mask: Tensor,  # (B,) bool
    ) -> Result:
        """Begin new episodes in the masked rows. A shard that has died begins with all of its rows; those that were
        not asked for are truncated in the next step.
        """
        waiting = set(range(len(self.shards)))
        for _ in range(2):
            calls = {}
            for shard in waiting:
                rows = self._rows(shard)
                self._ended[shard] &= not mask[rows].all()
                calls[shard] = begin.at(rows), mask[rows] | self._fresh[shard]
            results, waiting = self._call(EnvCore.reset, calls)
            for shard, shown in results.items():
                self._shown[shard], self._fresh[shard] = shown, False
            if not waiting:
                return join_results([shown for shown in self._shown if shown is not None])
        raise ChildProcessError(f"the actors of shards {sorted(waiting)} die as they begin (out of memory?)")

    def step(self, action: Any) -> Transition:
        """Advance every env by one chunk; rows of a shard that dies are truncated."""
        alive = [k for k in range(len(self.shards)) if not (self._fresh[k] or self._ended[k])]
        calls = {shard: (cut(action, self._rows(shard)),) for shard in alive}
        results, _ = self._call(EnvCore.step, calls)
        steps = [results.get(shard) or self._truncated(shard) for shard in range(len(self.shards))]
        self.lost = torch.tensor(self._ended).repeat_interleave(self.num_rows)
        for shard, step in enumerate(steps):
            self._shown[shard], self._ended[shard] = (step.obs, step.info), False
        obs, info = join_results([(step.obs, step.info) for step in steps])
        reward, terminated, truncated = (
            torch.cat([getattr(step, name) for step in steps]) for name in ("reward", "terminated", "truncated")
        )
        return Transition(obs, reward, terminated, truncated, info)

    def _truncated(self, shard: int) -> Transition:
        """Return the end of a shard's episodes: what they last showed."""
        shown = self._shown[shard]
        assert shown is not None
        over = torch.ones(self.num_rows, dtype=torch.bool)
        info = shown[1] | {"is_success": torch.zeros_like(over)}
        self._fresh[shard] = True  # all of its rows begin anew, whatever the mask of the reset to come
        return Transition(shown[0], torch.zeros(self.num_rows, dtype=torch.float64), ~over, over, info)

    def set_prompts(self, prompts: Mapping[int, str]) -> None:
        """Describe the worlds of some rows anew."""
        rows = list(prompts)
        calls = {k: ({rows[p] % self.num_rows: prompts[rows[p]] for p in at},) for k, at in self._of_rows(rows).items()}
        self._all(EnvCore.set_prompts, calls)

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice, and simulators."""
        self._one(EnvCore.check_rows, [0])
        check_rows(rows, self.num_envs)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows."""
        places = self._of_rows(rows)
        parts = self._all(EnvCore.clone_state, {k: (self._within(rows, at),) for k, at in places.items()})
        joined = join_states([parts[shard] for shard in places])
        order = torch.tensor([place for at in places.values() for place in at]).argsort()
        return {name: part[order] for name, part in joined.items()}

    def restore_state(
        self, state: Mapping[str, Tensor], rows: Sequence[int], *, shell: Mapping[str, Expected] | None = None
    ) -> None:
        """Continue cloned episodes in these rows; what a shard refuses, or one that dies, changes no other."""
        places = self._of_rows(rows)
        held = state["core.elapsed"] if "core.elapsed" in state else torch.zeros(0)
        if len(places) > 1 and (not held.ndim or len(held) != len(rows)):
            raise ValueError(f"the state holds {len(held) if held.ndim else 0} rows, {len(rows)} were named")
        calls = {}
        for shard, at in places.items():
            part = state if len(places) == 1 else {k: v[torch.tensor(at)] if v.ndim else v for k, v in state.items()}
            calls[shard] = (dict(part), self._within(rows, at), dict(shell or {}))
        before = self._all(EnvCore.clone_state, {k: (call[1],) for k, call in calls.items()} if len(calls) > 1 else {})
        try:
            self._all(_restore, calls)
        except (ValueError, ChildProcessError):
            alive = {k: part for k, part in before.items() if not self._fresh[k]}
            self._all(_restore, {k: (part, calls[k][1], None) for k, part in alive.items()})
            raise

    def fork(self, source: Sequence[int], rows: Sequence[int], reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows of the same shard, whose memory they share.

        Raises:
            ValueError: if a row and its trunk lie in different shards.
        """
        check_fork(source, rows, reseed, self.num_envs)
        for trunk, row in zip(source, rows, strict=True):
            if trunk // self.num_rows != row // self.num_rows:
                raise ValueError(
                    f"row {row} cannot share the memory of row {trunk}, which lies in another actor (rows in blocks of "
                    f"{self.num_rows}); restore_state(clone_state([{trunk}]), [{row}]) copies it"
                )
        seeds = dict(enumerate(reseed or ()))
        calls = {
            shard: (self._within(source, at), self._within(rows, at), [seeds[p] for p in at] if seeds else None)
            for shard, at in self._of_rows(rows).items()
        }
        self._all(EnvCore.fork, calls)

    def close(self) -> None:
        """End the shards."""
        self.shards.close()


def _restore(core: EnvCore, state: Any, rows: Any, shell: Any) -> None:
    core.restore_state(state, rows, shell=shell)


def _frames(core: EnvCore) -> Tensor:
    """Return the newest chunk, black in a shard that took the place of another and has not begun."""
    if core.frames is None:
        return torch.zeros(core.num_envs, core.spec.chunk_frames, core.spec.height, core.spec.width, 3).byte()
    return core.frames
