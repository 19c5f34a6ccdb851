"""An engine whose rows several sessions share: steps that are asked for at about the same time are one model call.

Sessions ask from threads of their own, each for its ``Seat``; the pool's thread waits until it is worth a model call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...dynamics.protocol import Chunk
from ...dynamics.signals import Track
from ...engine.engine import Engine
from .computing import Computing

LIVELY_S = 1.0
"""How long after its last step a seat is worth waiting for."""
WORTH = 0.05
"""Share of a model call's time that is worth waiting for others, where that is longer than one is told to wait."""
Shown = Callable[[int, Tensor], None]
"""Is shown a latent's number in its chunk and its frames, (R, 4, H, W, 3) uint8."""


@dataclass(eq=False)
class Seat:
    """Rows of a pool's engine that somebody holds."""

    rows: list[int]
    stepped: float = 0.0
    """When they were last stepped, on the clock of ``time.monotonic``."""
    watch: Shown | None = None
    present: dict[str, Tensor] | None = None
    """What the world gives of their newest latents, each (B, ...): kept, as nobody should wait for others' model calls
    to look at it."""


@dataclass(eq=False)
class Asked:
    """A step that is asked for."""

    seat: Seat
    commands: Track  # each (R, F, ...)
    rows: list[int]  # of the engine
    chunk: Future[Chunk] = field(default_factory=Future)


class Pool:
    """Steps the rows of one engine for all who have a seat."""

    def __init__(self, engine: Engine, compute: Computing, *, wait_s: float) -> None:
        self.engine, self.compute, self.wait_s = engine, compute, wait_s
        self.free = list(range(engine.num_envs))
        self.seats: set[Seat] = set()
        self.calls = self.rows = 0  # model calls so far, and rows that were stepped in them
        self._asked: list[Asked] = []
        self._running: list[Asked] = []
        self._changed = threading.Condition()
        self._closed = False
        self._took = 0.0  # seconds of the last call
        engine.watch = self._show
        threading.Thread(target=self._run, name="pool", daemon=True).start()

    def take(self, num_rows: int) -> Seat | None:
        """Return a seat of so many rows, or None where there are not so many left."""
        with self._changed:
            if len(self.free) < num_rows:
                return None
            rows, self.free = self.free[:num_rows], self.free[num_rows:]
            seat = Seat(rows)
            self.seats.add(seat)
            return seat

    def release(self, seat: Seat) -> None:
        """Take a seat's rows back."""
        with self._changed:
            if seat in self.seats:
                self.seats.remove(seat)
                self.free += seat.rows
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the thread, and let go of the engine: what refers to each other is kept until it is looked for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.engine.watch = None

    def step(self, asked: Asked) -> Chunk:
        """Step a seat's rows, with those of others; returns when it is done."""
        with self._changed:
            self._asked.append(asked)
            self._changed.notify_all()
        return asked.chunk.result()

    def look(self, seat: Seat) -> None:
        """Take note of what the world gives of a seat's rows; to be called where it is computed."""
        seat.present = {name: part[seat.rows] for name, part in self.engine.present.items()}

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._closed)
                if self._closed:
                    return
                self._changed.wait_for(self._complete, max(self.wait_s, WORTH * self._took))
            self.compute(self._step_all)

    def _complete(self) -> bool:
        """Tell whether everybody who may be expected to ask has asked."""
        waiting, now = {asked.seat for asked in self._asked}, time.monotonic()
        return all(seat in waiting or now - seat.stepped > LIVELY_S for seat in self.seats)

    def _step_all(self) -> None:
        """Step whoever has asked by now."""
        with self._changed:
            self._running, self._asked = self._asked, []
        began = time.monotonic()
        self._step(self._running)
        self._running, self._took = [], time.monotonic() - began

    def _step(self, batch: list[Asked]) -> None:
        """Step a batch; where it fails, one by one, so that only who is to blame is told."""
        try:
            chunk = self.engine.step(
                Track({name: torch.cat([asked.commands[name] for asked in batch]) for name in self.engine.spec.takes}),
                [row for asked in batch for row in asked.rows],
            )
        except Exception as error:
            if len(batch) == 1:
                batch[0].chunk.set_exception(error)
            else:
                for asked in batch:
                    self._running = [asked]
                    self._step([asked])
            return
        self.calls += 1
        self.rows += len(chunk.frames)
        first = 0
        for asked in batch:
            part = slice(first, first + len(asked.rows))
            signals = {name: signal[part].clone() for name, signal in chunk.signals.items()}
            n_frames = None if chunk.n_frames is None else chunk.n_frames[part].clone()
            asked.seat.stepped = time.monotonic()
            self.look(asked.seat)
            asked.chunk.set_result(Chunk(chunk.frames[part].clone(), signals, n_frames))
            first = part.stop

    def _show(self, rows: list[int], latent: int, frames: Tensor) -> None:
        place = {row: i for i, row in enumerate(rows)}
        for asked in self._running:
            if asked.seat.watch is not None:
                asked.seat.watch(latent, frames[[place[row] for row in asked.rows]])
