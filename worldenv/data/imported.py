"""Recordings from elsewhere as a source of clips: what a reader of their format gives, cut into latents and clips.

A reader (one file each under ``sources``) opens a recording and checks everything but the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..base.said import check_path
from ..bodies.vector import ACTION, action_signal
from ..dynamics.environment import Environment
from ..dynamics.signals import C2W, KEYS, Signal
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec, frames_of
from ..sims.gym import resized
from .schema import Array, Clip
from .sources.gym import CELL, LEAST_FRAMES
from .spans import HELD_OUT_SEED, Piece, Reader, Span, cut_clips, held, shared_out, usual_steps

RATE_SHARE = 0.005
"""By how much the rate of a world may differ from its recording's without a word; 29.97 is 30."""


class ImportedSource:
    """Clips of a recording from elsewhere; the reader's spans, one behind the other.

    Raises:
        ValueError: if no stage could train on what it holds; before a picture is decoded.
    """

    def __init__(
        self,
        open_reader: Callable[[Path, str], Reader],
        path: Path,
        camera: str,
        *,
        num_latents: int,
        first_seed: int,
        spec: WorldSpec,
        size: tuple[int, int] | None = None,
    ) -> None:
        check_path(path)
        self.reader, self.num_latents, self.clock = open_reader(path, camera), num_latents, spec
        self.every, self.where = spec.frames_per_latent, path
        self.width, self.height = size or (self.reader.width, self.reader.height)
        self._check()
        held_out = first_seed >= HELD_OUT_SEED
        self.first = first_seed - HELD_OUT_SEED * held_out
        spans = shared_out(self.reader.spans, held_out=held_out)
        self.clips = cut_clips([(span, self._latents(span)) for span in spans], num_latents)
        if not self.clips:
            most = max(sum(self._latents(span) + 1 for span in spans) - 1, 0)
            raise ValueError(
                f"{path}: the {'held-out ' if held_out else ''}episodes hold {sum(s.num_frames for s in spans)} frames "
                f"in all, a clip of num_latents={num_latents} {frames_of(num_latents + 1, self.every)}; pass "
                f"--num-latents {most} or less"
            )

    def _check(self) -> None:
        """Refuse what no stage trains on."""
        if self.height % CELL or self.width % CELL:
            near = [max(CELL, CELL * round(side / CELL)) for side in (self.width, self.height)]
            raise ValueError(
                f"{self.where} shows {self.width}x{self.height} frames; no stage trains on sides that are not "
                f"multiples of {CELL}: pass --size {near[0]} {near[1]}, or smaller"
            )
        least = -(-(LEAST_FRAMES - 1) // self.every)
        if self.num_latents < least:
            raise ValueError(
                f"num_latents={self.num_latents}: no stage trains on clips this short; pass {least} or more"
            )
        if not self.reader.spans:
            raise ValueError(f"{self.where}: no frames are left; {'; '.join(self.reader.notes) or 'it holds none'}")
        if not self.reader.parts and self.every != FRAMES_PER_LATENT:
            raise ValueError(f"{self.where} has poses; worlds with a camera have frames_per_latent={FRAMES_PER_LATENT}")

    @property
    def num_clips(self) -> int:
        """Clips that there are from the first one on."""
        return max(0, len(self.clips) - self.first)

    @property
    def shown_as(self) -> WorldSpec:
        """What a world of it shows and takes, at what rate."""
        reader = self.reader
        takes: dict[str, Signal] = {ACTION: action_signal(reader.parts)} if reader.parts else {"keys": KEYS, "c2w": C2W}
        made = replace(
            self.clock,
            width=self.width,
            height=self.height,
            fps=max(1, round(reader.fps)) if reader.fps else self.clock.fps,
            takes=takes,
            gives={} if reader.parts else {"c2w": C2W},
            environment=Environment(id=reader.name, actions=reader.parts) if reader.parts else None,
        )
        if reader.parts:
            return made
        K = next((span.K for span in reader.spans if span.K is not None), None)
        focal = None if K is None else (float(K[0, 0]) / reader.width, float(K[1, 1]) / reader.height)
        return replace(made, focal=focal, steps=usual_steps(reader.spans))

    def describe(self) -> str:
        """Say in words what is imported, and what is left out."""
        episodes = len({span.episode for span in self.reader.spans})
        frames = sum(span.num_frames for span in self.reader.spans)
        said = [f"{episodes} episodes of {frames} frames", f"{self.num_clips} clips of them from the first on"]
        rate, shown = self.reader.fps, self.shown_as.fps
        if rate and abs(shown - rate) > RATE_SHARE * rate:
            said.append(f"{rate:g} frames a second, which a world of it shows at {shown}, a whole number")
        changes = self._changes()
        if changes:
            said.append(
                f"in {changes:.0%} of latents what is done changes within {self.every} frames, and what was done for "
                "longest stands for all; with frames_per_latent=1 every action is kept"
            )
        if self.reader.parts and not any("reward" in span.steps for span in self.reader.spans):
            said.append("no rewards and ends: a world of it pays nothing and never ends")
        return "; ".join([*said, *self.reader.notes])

    def _changes(self) -> float:
        """Return the share of latents in which something that is chosen changes."""
        parts, changed, whole = self.reader.parts, 0, 0
        if self.every == 1 or all(part.kind == "box" for part in parts):
            return 0.0
        chosen = np.concatenate([np.full(part.size, part.kind != "box") for part in parts])
        for span in self.reader.spans:
            count = span.num_steps // self.every
            some = span.steps[ACTION][: count * self.every, chosen].reshape(count, self.every, -1)
            changed, whole = changed + int((some != some[:, :1]).any((1, 2)).sum()), whole + count
        return changed / max(whole, 1)

    def _latents(self, span: Span) -> int:
        """Return how many latents a span shows behind its start view; one that ends fills its chunk."""
        count = span.num_steps // self.every
        if not span.ended:
            return count
        chunk = self.every * self.clock.chunk_latents
        return -(-span.num_steps // chunk) * self.clock.chunk_latents

    def clip(self, index: int) -> Clip:
        """Return clip ``index``."""
        pieces = self.clips[self.first + index]
        frames = np.concatenate([self._frames(piece, alone=not i) for i, piece in enumerate(pieces)])
        signals = [self._signals(piece) for piece in pieces]
        whole = {name: np.concatenate([one[name] for one in signals]) for name in signals[0]}
        if pieces[0].span.K is not None:
            scale = np.array([[self.width / self.reader.width], [self.height / self.reader.height], [1.0]])
            whole["K"] = (pieces[0].span.K * scale).astype(np.float32)
        attributes = {"env": self.reader.name, "from": ", ".join(dict.fromkeys(piece.span.name for piece in pieces))}
        assert len(frames) == frames_of(self.num_latents + 1, self.every)
        return Clip(frames, whole, attributes, self.every)

    def _frames(self, piece: Piece, *, alone: bool) -> Array:
        """Decode what a piece shows, its start view ``alone`` or for a latent; what an episode ends with stands."""
        span, first = piece.span, piece.first * self.every
        stop = min(first + piece.count * self.every + 1, span.num_frames)
        first = min(first, span.num_frames - 1)
        made = [resized(frame, self.width, self.height) for frame in self.reader.frames(span, first, stop)]
        shown = np.stack([*made, *made[-1:] * (piece.count * self.every + 1 - len(made))])
        return np.concatenate([np.repeat(shown[:1], 0 if alone else self.every - 1, 0), shown])

    def _signals(self, piece: Piece) -> dict[str, Array]:
        """Return what is recorded of a piece's latents, each (1 + count, ...)."""
        span, every, count = piece.span, self.every, piece.count
        first, num = piece.first * every, 1 + count
        steps = first + np.arange(count * every).reshape(count, every)
        there = steps < span.num_steps
        at = np.minimum(steps, span.num_steps - 1)
        made: dict[str, Array] = {"is_first": np.arange(num) == 0}
        for name, kind in (("reward", np.float32), ("terminated", np.bool_), ("truncated", np.bool_)):
            told = span.steps.get(name)
            made[name] = np.zeros(num, kind)
            if told is not None:
                made[name][1:] = np.where(there, told[at], 0).sum(1)
        if span.c2w is not None:
            c2w = span.c2w[np.minimum(first + every * np.arange(num), span.num_frames - 1)]
            keys = self.shown_as.keys_along(torch.from_numpy(c2w)).numpy()
            return made | {"c2w": c2w, "keys": np.concatenate([np.zeros((1, 2), np.int64), keys])}
        actions = held(self.reader.parts, span.steps[ACTION][at])
        return made | {ACTION: np.concatenate([np.zeros((1, actions.shape[1]), np.float32), actions])}

    def close(self) -> None:
        """Stop nothing: files are opened for as long as they are read."""
