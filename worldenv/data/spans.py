"""What a reader of a foreign format gives: spans of good frames, with what led from each frame to the next.

Spans stand in one row, cut into clips of equal length; one that is longer goes on in the next clip. Every tenth episode
is held out: it is what clips of seeds from ``HELD_OUT_SEED`` on are cut from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from ..bodies.vector import ACTION
from ..dynamics.environment import ActionPart
from ..dynamics.spec import FRAMES_PER_LATENT
from ..geometry.action import ActionSteps
from ..geometry.pose import relative, rotation_angle
from .schema import Array
from .video import Frame

HELD_OUT_SEED = 900_000
"""From this seed on clips are of episodes that are held out."""
HELD_OUT_SHARE = 10
"""One episode of so many is."""


@dataclass(frozen=True)
class Span:
    """Frames in a row of one episode, and what led from each to the next."""

    name: str
    """File and episode, for errors."""
    episode: int
    first: int
    """Number of its first frame in the episode."""
    num_frames: int
    steps: Mapping[str, Array] = field(default_factory=dict)
    """``action`` (S, A) embedded, ``reward``, ``terminated``, ``truncated`` (S,): S is num_frames - 1, or num_frames
    where what the last one led to was not recorded, and the last frame stands for it."""
    c2w: Array | None = None
    """(num_frames, 4, 4) where the camera was at each frame, in recordings of a camera."""
    K: Array | None = None
    """(3, 3) in pixels of the recording."""

    @property
    def num_steps(self) -> int:
        """Steps in it."""
        return len(self.steps[ACTION]) if ACTION in self.steps else self.num_frames - 1

    @property
    def ended(self) -> bool:
        """Whether the episode ends with it."""
        return any(bool(self.steps[name][-1]) for name in ("terminated", "truncated") if name in self.steps)

    def part(self, first: int, num_frames: int) -> Span:
        """Return some of its frames."""
        cut, steps = slice(first, first + num_frames), slice(first, first + num_frames - 1)
        return replace(
            self,
            first=self.first + first,
            num_frames=num_frames,
            steps={name: values[steps] for name, values in self.steps.items()},
            c2w=None if self.c2w is None else self.c2w[cut],
        )


class Reader(Protocol):
    """A recording from elsewhere, opened and checked."""

    name: str
    """What a world of it says that it was recorded from; no path, which means nothing elsewhere."""
    width: int
    height: int
    fps: float
    parts: tuple[ActionPart, ...]
    """What one did in it; empty in recordings of a camera."""
    spans: Sequence[Span]
    notes: Sequence[str]
    """What was left out, in words."""

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Decode some frames of a span, counted from its first one."""
        ...


@dataclass(frozen=True)
class Piece:
    """Latents of a span in a clip: a start view, and so many behind it."""

    span: Span
    first: int
    """Latents of the span before the start view."""
    count: int


def shared_out(spans: Sequence[Span], *, held_out: bool) -> list[Span]:
    """Return the spans to train on, or those that are held out: every tenth episode, or the last.

    Of one episode alone the last span is held out, of one span alone its last tenth.
    """
    if len(spans) == 1 and spans[0].num_frames > 2 * HELD_OUT_SHARE * FRAMES_PER_LATENT:
        (span,) = spans
        kept = FRAMES_PER_LATENT * (span.num_frames * (HELD_OUT_SHARE - 1) // HELD_OUT_SHARE // FRAMES_PER_LATENT)
        last = replace(span.part(kept, span.num_frames - kept), steps={n: v[kept:] for n, v in span.steps.items()})
        return [last if held_out else span.part(0, kept)]
    episodes = sorted({span.episode for span in spans})
    unit = {id(span): span.episode if len(episodes) > 1 else number for number, span in enumerate(spans)}
    units = sorted(set(unit.values()))
    if len(units) == 1:  # too little to share out
        return [] if held_out else list(spans)
    chosen = {*(units[HELD_OUT_SHARE - 1 :: HELD_OUT_SHARE] or units[-1:])}
    return [span for span in spans if (unit[id(span)] in chosen) == held_out]


def cut_clips(spans: Sequence[tuple[Span, int]], num_latents: int) -> list[list[Piece]]:
    """Fill clips of 1 + num_latents latents with spans of so many behind their start views; what fills none is left."""
    clips: list[list[Piece]] = []
    pieces: list[Piece] = []
    room = 1 + num_latents
    for span, latents in spans:
        shown = 0
        while shown < latents:
            count = min(room - 1, latents - shown)
            pieces.append(Piece(span, shown, count))
            shown, room = shown + count, room - count - 1
            if not room:
                clips.append(pieces)
                pieces, room = [], 1 + num_latents
    return clips


def held(
    parts: Sequence[ActionPart],
    actions: Array,  # (F, frames per latent, A) embedded
) -> Array:
    """Return what stands for the actions of each latent, (F, A): means of numbers, of choices what was done longest."""
    mean, first = actions.mean(1), 0
    for part in parts:
        for count in part.counts:
            one = slice(first, first + count)
            mean[:, one] = np.eye(count)[mean[:, one].argmax(1)]
            first += count
        if not part.counts:
            if part.kind == "multi_binary":
                mean[:, first : first + part.size] = mean[:, first : first + part.size] > 0.5
            first += part.size
    return mean.astype(np.float32)


def usual_steps(spans: Sequence[Span]) -> ActionSteps:
    """Return what a key does in a latent of a camera's recording: the median of what is no standing still."""
    ends = [torch.from_numpy(s.c2w[::FRAMES_PER_LATENT]) for s in spans if s.c2w is not None]
    motions = torch.cat([relative(one[:-1], one[1:]) for one in ends])
    moves, turns = motions[:, :3, 3].norm(dim=-1), rotation_angle(motions[:, :3, :3]).rad2deg()
    plain = ActionSteps()
    some = [(x[x > 0.1 * x.max()] if len(x) and x.max() > 1e-6 else x[:0]) for x in (moves, turns)]
    move, turn = (float(x.median()) if len(x) else usual for x, usual in zip(some, (plain.move, plain.turn_deg)))
    return replace(plain, move=move, turn_deg=turn, motion="fly")
