"""An engine whose rows several sessions share: steps that are asked for at about the same time are one model call.

A session steps a ``Share``, which is a ``Dynamics`` of its rows alone, from a thread of its own; the pool's thread
steps the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from ...dynamics.protocol import Chunk, check_rows
from ...dynamics.signals import Signals, Track
from ...engine.engine import Engine

T = TypeVar("T")
LIVELY_S = 1.0
"""How long after its last step a share is worth waiting for."""
WORTH = 0.05
"""Share of a model call's time that is worth waiting for others, where that is longer than one is told to wait."""
Shown = Callable[[int, Tensor], None]
"""Is shown a latent's number in its chunk and its frames, (R, 4, H, W, 3) uint8."""


@dataclass(eq=False)
class Asked:
    """A step that is asked for."""

    share: Share
    commands: Track  # each (R, F, ...)
    rows: list[int]  # of the engine
    chunk: Future[Chunk] = field(default_factory=Future)


class Pool:
    """Steps the rows of one engine for all who have a share of them."""

    def __init__(self, engine: Engine, compute: threading.Lock, *, wait_s: float) -> None:
        self.engine, self.compute, self.wait_s = engine, compute, wait_s
        self.free = list(range(engine.num_envs))
        self.shares: set[Share] = set()
        self.calls = self.rows = 0  # model calls so far, and rows that were stepped in them
        self._asked: list[Asked] = []
        self._running: list[Asked] = []
        self._changed = threading.Condition()
        self._closed = False
        self._took = 0.0  # seconds of the last call
        engine.watch = self._show
        threading.Thread(target=self._run, name="pool", daemon=True).start()

    def take(self, num_rows: int) -> Share | None:
        """Return a share of so many rows, or None where there are not so many left."""
        with self._changed:
            if len(self.free) < num_rows:
                return None
            rows, self.free = self.free[:num_rows], self.free[num_rows:]
            share = Share(self, rows)
            self.shares.add(share)
            return share

    def release(self, share: Share) -> None:
        """Take a share's rows back."""
        with self._changed:
            if share in self.shares:
                self.shares.remove(share)
                self.free += share.rows
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def step(self, asked: Asked) -> Chunk:
        """Step a share's rows, with those of others; returns when it is done."""
        with self._changed:
            self._asked.append(asked)
            self._changed.notify_all()
        return asked.chunk.result()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._closed)
                if self._closed:
                    return
                self._changed.wait_for(self._complete, max(self.wait_s, WORTH * self._took))
            with self.compute:
                with self._changed:
                    self._running, self._asked = self._asked, []
                began = time.monotonic()
                self._step(self._running)
                self._running, self._took = [], time.monotonic() - began

    def _complete(self) -> bool:
        """Tell whether everybody who may be expected to ask has asked."""
        waiting, now = {asked.share for asked in self._asked}, time.monotonic()
        return all(share in waiting or now - share.stepped > LIVELY_S for share in self.shares)

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
            asked.share.stepped = time.monotonic()
            asked.chunk.set_result(Chunk(chunk.frames[part].clone(), signals, n_frames))
            first = part.stop

    def _show(self, rows: list[int], latent: int, frames: Tensor) -> None:
        place = {row: i for i, row in enumerate(rows)}
        for asked in self._running:
            if asked.share.watch is not None:
                asked.share.watch(latent, frames[[place[row] for row in asked.rows]])


class Share:
    """``Dynamics`` of some rows of a pool's engine, with all that the engine can do."""

    def __init__(self, pool: Pool, rows: Sequence[int]) -> None:
        self.pool, self.rows = pool, list(rows)
        self.spec, self.num_envs = pool.engine.spec, len(self.rows)
        self.index = torch.tensor(self.rows)
        self.stepped = 0.0  # when
        self.watch: Shown | None = None

    @property
    def engine(self) -> Engine:
        """The engine, of which other rows are others'."""
        return self.pool.engine

    @property
    def present(self) -> dict[str, Tensor]:
        """What the world gives of each env's newest latent, each (B, ...)."""
        with self.pool.compute:
            return {name: part[self.index] for name, part in self.engine.present.items()}

    def step(self, commands: Signals, rows: Sequence[int] | None = None) -> Chunk:
        """Advance some rows, in one model call with those of others."""
        chosen = self.rows if rows is None else self._mapped(rows)
        return self.pool.step(Asked(self, Track(commands), chosen))

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes from start views."""
        with self.pool.compute:
            spread = self._spread(starts, None)
            return self._own(self.engine.reset(seeds=self._spread(seeds, 0), starts=spread, mask=self._wide(mask)))

    def check_clip(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        track: Signals,  # each (B, F, ...)
    ) -> None:
        """Refuse clips that ``resume`` cannot go on from."""
        self.engine.check_clip(frames, track)

    def resume(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        track: Signals,  # each (B, F, ...)
        *,
        seeds: Sequence[int],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes from clips."""
        with self.pool.compute:
            every = {name: self._fill(part) for name, part in track.items()}
            whole = self._fill(frames)
            return self._own(
                self.engine.resume(whole, every, seeds=self._spread(seeds, 0), mask=self._wide(mask)),
            )

    def observe(
        self,
        frames: Tensor,  # (R, T, H, W, 3) uint8
        commands: Track,  # each (R, F, ...)
        rows: Sequence[int] | None = None,
    ) -> None:
        """Advance some rows by what really happened."""
        with self.pool.compute:
            self.engine.observe(frames, commands, self.rows if rows is None else self._mapped(rows))

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w)
        track: Signals,  # each (R, F, ...)
        seeds: list[int],
    ) -> None:
        """Begin episodes from encoded clips."""
        with self.pool.compute:
            self.engine.begin(self.index[rows], latents, track, seeds)

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice."""
        check_rows(rows, self.num_envs)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows."""
        self.check_rows(rows)
        with self.pool.compute:
            return self.engine.clone_state(self._mapped(rows))

    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows."""
        self.check_rows(rows)
        with self.pool.compute:
            self.engine.restore_state(tensors, self._mapped(rows))

    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows."""
        for row in source:
            self.check_rows([row])
        self.check_rows(rows)
        with self.pool.compute:
            self.engine.fork(self._mapped(source), self._mapped(rows), reseed=reseed)

    def identity(self) -> dict[str, object]:
        """Return what must agree where a state is to be restored."""
        return self.engine.identity()

    @property
    def takes_prompts(self) -> bool:
        """Whether the world was trained with text."""
        return self.engine.takes_prompts

    def encode_prompt(self, prompt: str) -> Tensor:
        """Return a prompt's embedding, (1, L, text_dim)."""
        with self.pool.compute:
            return self.engine.encode_prompt(prompt)

    def set_prompt(self, prompt: str | Tensor, rows: Sequence[int] | None = None) -> None:
        """Describe the world of some rows (all by default) from the next chunk on."""
        with self.pool.compute:
            self.engine.set_prompt(prompt, self.rows if rows is None else self._mapped(rows))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, (C, h, w)."""
        return self.engine.latent_shape

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32."""
        with self.pool.compute:
            return self.engine.newest_latents()[self.index]

    def explain(self) -> dict[str, Tensor]:
        """Return what the newest chunk of each row attended to."""
        with self.pool.compute:
            return {name: part[self.index] for name, part in self.engine.explain().items()}

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as people are shown them."""
        return self.engine.enlarge(frames)

    def close(self) -> None:
        """Give the rows back."""
        self.pool.release(self)

    def _mapped(self, rows: Sequence[int]) -> list[int]:
        return [self.rows[row] for row in rows]

    def _own(self, chunk: Chunk) -> Chunk:
        return Chunk(chunk.frames[self.index], {name: part[self.index] for name, part in chunk.signals.items()})

    def _spread(self, values: Sequence[T], rest: T) -> list[T]:
        """Lay values of each row out over the engine's."""
        every = [rest] * self.engine.num_envs
        for row, value in zip(self.rows, values, strict=True):
            every[row] = value
        return every

    def _wide(self, mask: Tensor | None) -> Tensor:
        every = torch.zeros(self.engine.num_envs, dtype=torch.bool)
        every[self.index] = True if mask is None else mask
        return every

    def _fill(
        self,
        part: Tensor,  # (B, ...)
    ) -> Tensor:
        """Lay a tensor out over the engine's rows; others hold what the first row does, and are not looked at."""
        every = part[:1].expand(self.engine.num_envs, *part.shape[1:]).clone()
        every[self.index] = part
        return every
