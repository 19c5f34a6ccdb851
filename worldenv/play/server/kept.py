"""Moments of an episode that one can go back to. What grows with it is kept once, not again with each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
"""A cloned episode, each tensor with a leading row axis."""


@dataclass(frozen=True)
class Moment:
    """A state, as what was added to the one before it."""

    before: Moment | None
    added: State
    shared: dict[str, int]
    """Entries along axis 1 that are those of the moment before, by name."""

    @classmethod
    def after(cls, before: Moment | None, known: State, state: State) -> Moment:
        """Keep a state behind another, whose tensors are ``known``."""
        shared = {name: _shared(known[name], part) for name, part in state.items() if name in known and before}
        shared = {name: count for name, count in shared.items() if count}
        added = {name: part[:, shared[name] :].clone() if name in shared else part for name, part in state.items()}
        return cls(before, added, shared)

    def state(self) -> State:
        """Return the state."""
        return {name: self._whole(name) for name in self.added}

    def _whole(self, name: str) -> Tensor:
        parts, moment, end = [], self, None
        while True:
            part = moment.added[name]
            start = moment.shared.get(name, 0)
            parts.append(part if end is None else part[:, : max(0, end - start)])
            if not start:
                break
            assert moment.before is not None
            moment, end = moment.before, start if end is None else min(start, end)
        return parts[0].clone() if len(parts) == 1 else torch.cat(parts[::-1], 1)

    @property
    def size(self) -> int:
        """Bytes of its own."""
        return sum(part.numel() * part.element_size() for part in self.added.values())


def _shared(before: Tensor, now: Tensor) -> int:
    """Return how many entries along axis 1 are the same from the beginning: all of the one before, or none."""
    if before.ndim < 2 or now.ndim != before.ndim or now.dtype != before.dtype:
        return 0
    count = before.shape[1]
    if now.shape[1] < count or now.shape[2:] != before.shape[2:] or len(now) != len(before):
        return 0
    return count if torch.equal(now[:, :count], before) else 0


class Kept:
    """The newest moments of an episode, by the number of chunks that went before; within limits."""

    def __init__(self, most: int, max_bytes: float) -> None:
        self.most, self.max_bytes = most, max_bytes
        self.moments: dict[int, Moment] = {}
        self._known: State = {}

    def forget(self) -> None:
        """Begin anew."""
        self.moments, self._known = {}, {}

    def keep(self, chunk: int, state: State) -> None:
        """Keep a state, in place of those of this chunk and of later ones."""
        before = self.go_back(chunk - 1) if self.moments else None
        self.moments[chunk] = Moment.after(before, self._known, state)
        self._known = state
        while len(self.moments) > self.most or (len(self.moments) > 1 and self.size > self.max_bytes):
            self._forget_oldest()

    def go_back(self, chunk: int) -> Moment | None:
        """Forget what came after a chunk; return the moment right after it, or the newest before."""
        gone = [number for number in self.moments if number > chunk]
        for number in gone:
            del self.moments[number]
        if not self.moments:
            self._known = {}
            return None
        newest = self.moments[max(self.moments)]
        if gone:
            self._known = newest.state()
        return newest

    def state(self, chunk: int) -> State:
        """Return the state right after a chunk; a ValueError says which there are."""
        if chunk not in self.moments:
            there = f"{min(self.moments)}..{max(self.moments)}" if self.moments else "none; create with keep"
            raise ValueError(f"chunk={chunk} is not kept; there are {there}")
        return self.moments[chunk].state()

    def copy(self, upto: int) -> Kept:
        """Return the moments up to a chunk, for another episode that goes on from there; they are shared."""
        other = Kept(self.most, self.max_bytes)
        other.moments = {number: moment for number, moment in self.moments.items() if number <= upto}
        other._known = other.moments[max(other.moments)].state() if other.moments else {}
        return other

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(moment.size for moment in self.moments.values())

    def _forget_oldest(self) -> None:
        """Drop the oldest moment; the next one becomes whole, and those behind it are told so."""
        numbers = sorted(self.moments)
        del self.moments[numbers[0]]
        before: Moment | None = None
        for number in numbers[1:]:
            moment = self.moments[number]
            if before is None:
                before = Moment(None, moment.state(), {})
            else:
                before = Moment(before, moment.added, moment.shared)
            self.moments[number] = before
