"""Some rows of an engine that is shared, as an environment sees them: a ``Dynamics`` of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ...dynamics.protocol import Chunk, check_rows
from ...dynamics.signals import Signals, Track
from ...engine.engine import Engine
from .pool import Asked, Pool, Seat, Shown

T = TypeVar("T")


class Share:
    """``Dynamics`` of a seat's rows, with all that the engine can do."""

    def __init__(self, pool: Pool, seat: Seat) -> None:
        self.pool, self.seat, self.rows = pool, seat, seat.rows
        self.spec, self.num_envs = pool.engine.spec, len(self.rows)
        self.index = torch.tensor(self.rows)

    @property
    def watch(self) -> Shown | None:
        """What is shown each latent while a step lasts."""
        return self.seat.watch

    @watch.setter
    def watch(self, shown: Shown | None) -> None:
        self.seat.watch = shown

    @property
    def engine(self) -> Engine:
        """The engine, of which other rows are others'."""
        return self.pool.engine

    @property
    def present(self) -> dict[str, Tensor]:
        """What the world gives of each env's newest latent, each (B, ...)."""
        if self.seat.present is None:
            self.pool.compute(self.pool.look, self.seat)
        assert self.seat.present is not None
        return self.seat.present

    def step(self, commands: Signals, rows: Sequence[int] | None = None) -> Chunk:
        """Advance some rows, in one model call with those of others."""
        chosen = self.rows if rows is None else self._mapped(rows)
        return self.pool.step(Asked(self.seat, Track(commands), chosen))

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes from start views."""
        every, spread, wide = self._spread(seeds, 0), self._spread(starts, None), self._wide(mask)
        return self._change(lambda: self._own(self.engine.reset(seeds=every, starts=spread, mask=wide)))

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
        clips, spread, wide = self._fill(frames), self._spread(seeds, 0), self._wide(mask)
        every = {name: self._fill(part) for name, part in track.items()}
        return self._change(lambda: self._own(self.engine.resume(clips, every, seeds=spread, mask=wide)))

    def observe(
        self,
        frames: Tensor,  # (R, T, H, W, 3) uint8
        commands: Track,  # each (R, F, ...)
        rows: Sequence[int] | None = None,
    ) -> None:
        """Advance some rows by what really happened."""
        chosen = self.rows if rows is None else self._mapped(rows)
        self._change(lambda: self.engine.observe(frames, commands, chosen))

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w)
        track: Signals,  # each (R, F, ...)
        seeds: list[int],
    ) -> None:
        """Begin episodes from encoded clips."""
        self._change(lambda: self.engine.begin(self.index[rows], latents, track, seeds))

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice."""
        check_rows(rows, self.num_envs)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows."""
        self.check_rows(rows)
        return self.pool.compute(self.engine.clone_state, self._mapped(rows))

    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows."""
        self.check_rows(rows)
        self._change(lambda: self.engine.restore_state(tensors, self._mapped(rows)))

    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows."""
        for row in source:
            self.check_rows([row])
        self.check_rows(rows)
        self._change(lambda: self.engine.fork(self._mapped(source), self._mapped(rows), reseed=reseed))

    def identity(self) -> dict[str, object]:
        """Return what must agree where a state is to be restored."""
        return self.engine.identity()

    @property
    def takes_prompts(self) -> bool:
        """Whether the world was trained with text."""
        return self.engine.takes_prompts

    def encode_prompt(self, prompt: str) -> Tensor:
        """Return a prompt's embedding, (1, L, text_dim)."""
        return self.pool.compute(self.engine.encode_prompt, prompt)

    def set_prompt(self, prompt: str | Tensor, rows: Sequence[int] | None = None) -> None:
        """Describe the world of some rows (all by default) from the next chunk on."""
        self.pool.compute(self.engine.set_prompt, prompt, self.rows if rows is None else self._mapped(rows))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, (C, h, w)."""
        return self.engine.latent_shape

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32."""
        return self.pool.compute(lambda: self.engine.newest_latents()[self.index])

    def explain(self) -> dict[str, Tensor]:
        """Return what the newest chunk of each row attended to."""
        return self.pool.compute(lambda: {name: part[self.index] for name, part in self.engine.explain().items()})

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as people are shown them."""
        return self.engine.enlarge(frames)

    def close(self) -> None:
        """Give the rows back."""
        self.pool.release(self.seat)

    def _change(self, do: Callable[[], T]) -> T:
        """Let something happen to these rows, and take note of what the engine gives of them then."""

        def changed() -> T:
            self.seat.present = None
            result = do()
            self.pool.look(self.seat)
            return result

        return self.pool.compute(changed)

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
