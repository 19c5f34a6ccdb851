"""What advances episodes by a chunk: context, denoising, memory and screen of some rows, in tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..base.device import stateful, threads_for
from ..diffusion.schedule import SamplerConfig
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from ..geometry.camera import normalise_intrinsics
from ..models.codec import to_pixels
from ..models.types import KeysValues
from ..world.pose_video import PoseVideo
from ..world.world import World
from .doubt import disagreement
from .rollout import Known, Staged, generate_chunk
from .state import EngineState

THREADS_FROM = 2**17
"""Numbers in a layer's activations of a chunk from which several CPU threads are worth waking; measured."""
LOOKS_BACK = 4
"""Latents whose frames are encoded before those of an observed chunk, for the encoder to look back at."""


class Stepper:
    """Advances rows of an ``EngineState``, which ascend; what it is given was checked."""

    def __init__(
        self,
        world: World,
        spec: WorldSpec,
        sampler: SamplerConfig,
        state: EngineState,
        *,
        call: Callable[..., Any],  # runs the device's part of a chunk: see ``capture``
        shows: bool,  # whether latents are decoded
    ) -> None:
        self.world, self.spec, self.sampler, self.state = world, spec, sampler, state
        self.call, self.shows = call, shows
        self.history, self.device = state.history, world.vae.latent_mean.device
        self.K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)
        self.pose_video = PoseVideo(spec, world.vae) if world.config.dit.pose_video else None

    @stateful
    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w): the start view's latent, none (the model invents it), or a clip's
        track: Track,  # each (R, F, ...), or (R, 1, ...) where there are no latents
        seeds: list[int],
        *,
        noise: Tensor | None,  # (R, horizon, C, h, w) instead of drawing it, until any row begins anew
        frames: Tensor | None,  # (R, 4 F - 3, H, W, 3) uint8: what was encoded; decoded if it is needed
        views: Tensor | None = None,  # (R, E, H, W, 3) uint8: instead, what each entry of a clip ends with
    ) -> None:
        """Begin episodes from encoded start views or clips."""
        state, horizon = self.state, self.sampler.noise_horizon
        state.begin(rows, track.map(lambda part: part[:, 0]), seeds)
        text = state.text_batch(rows.tolist())
        self.history.begin(rows, latents, track.part(slice(latents.shape[1])), K=self.K, text=text)
        if noise is not None:
            state.set_noise(rows, noise)
        elif horizon:
            state.draw_ahead(rows, self.world.latent_shape, horizon)
        else:
            state.noise = None
        if self.shows and views is not None:
            some = slice(max(0, latents.shape[1] - 1 - LOOKS_BACK), latents.shape[1])
            decoded = state.screen.begin(rows, latents[:, some])  # the decoder looks back no further
            self.history.show_entries(rows, views, given=True)
            self._read_clip(rows, decoded, track.part(some))
        elif self.shows and latents.shape[1]:
            decoded = state.screen.begin(rows, latents)
            known = decoded if frames is None else frames
            self.history.show(rows, known[:, :: self.spec.frames_per_latent], given=frames is not None)
            self._read_clip(rows, known, track)

    def _read_clip(
        self,
        rows: Tensor,  # (R,) int64
        frames: Tensor,  # (R, T, H, W, 3) uint8
        track: Track,  # each (R, F, ...)
    ) -> None:
        """Let heads look at what episodes begin with, latent by latent."""
        events, every = self.state.events, self.spec.frames_per_latent
        first = frames[:, :1].expand(-1, every, -1, -1, -1)
        events.read(rows, frames[:, 0], first, track.at((slice(None), 0)), self.spec, start=True)
        for i in range(1, track.num_latents):
            shown = frames[:, every * (i - 1) : every * i + 1]
            events.read(rows, shown[:, 0], shown[:, 1:], track.at((slice(None), i)), self.spec)
        events.settle(rows)

    @stateful
    def stream(self, track: Track, rows: Tensor) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Generate the next chunk of some rows; yield a latent's frames as they are decoded, (R, 4, H, W, 3) uint8,
        and what heads say of it, each (R,).
        """
        length, screen, events = self.state.bank.length[rows], self.state.screen, self.state.events
        first, latents = self.first(length), self.generate(track, rows)
        if not self.shows:
            return
        for i, latent in enumerate(latents.split(1, dim=1)):
            starting, before = first & (i == 0), screen.frames[rows]
            frames = screen.show(rows, latent, begun=~starting, invented=starting & (length == 0))
            events.read(rows, before, frames, track.at((slice(None), i)), self.spec)
            yield frames, {name: part[rows] for name, part in events.present.items()}
        self.history.show(rows, frames[:, -1:])

    def realised(self, track: Track, rows: Tensor) -> Track:
        """Return what becomes of commands: their keys, and a path that slides along what was seen to be solid."""
        walls = self.history.walls
        if walls is None:
            return track
        return Track(track | {"c2w": walls.slide(rows, self.state.present["c2w"][rows], track["c2w"])})

    def first(self, length: Tensor) -> Tensor:
        """Tell which rows come to their first chunk and have the start view in it; (R,) bool."""
        return (length <= 1) & self.spec.start_in_chunk

    def placed(self, track: Track, rows: Tensor, first: Tensor) -> Track:
        """Put the start in front of first chunks that contain it; their last command is dropped."""
        if not first.any():
            return track
        start = self.state.origin.at((rows, None))
        return Track.join([start, track.part(slice(-1))]).where(first, track)

    @stateful
    def generate(self, track: Track, rows: Tensor) -> Tensor:
        """Generate and remember the next chunk's latents of some rows, (R, F, C, h, w)."""
        state, window = self.state, self.state.window
        first = self.first(state.bank.length[rows])
        given = first & (state.bank.length[rows] > 0)
        placed = self.placed(track, rows, first)
        staged = self._stage(placed if window is None else window.look_ahead(state.bank, placed), rows, hidden=first)
        size = len(rows) * placed.num_latents * self.world.dit.latent_size(self.world.latent_shape)
        with threads_for(size, enough=THREADS_FROM, device=self.device):
            if window is None:
                latents, recorded = self._denoise(staged, rows, first, given)
            else:
                prepared = self.history.encode(staged)
                latents = window.advance(prepared, self._draw)
                recorded = prepared.record(latents) if self.history.records else None
        for some, new in ((given, slice(1, None)), (~given, slice(None))):
            index = some.nonzero()[:, 0]
            state.bank.append(rows[index], latents[index.to(self.device), new], placed.at((index, new)))
        self.history.record(rows, recorded, placed)
        return latents

    def _stage(self, track: Track, rows: Tensor, *, hidden: Tensor) -> Staged:
        """Choose and condition the context of these rows' coming chunk; prompts that changed are taken in first."""
        state, chosen = self.state, rows.tolist()
        for row in sorted(state.stale.intersection(chosen)):
            self.history.recache(row, K=self.K, text=state.text_batch([row]))
        state.stale.difference_update(chosen)
        seeds, text = [state.seeds[row] for row in chosen], state.text_batch(chosen)
        if self.pose_video is not None:
            track = self.pose_video.beside(track, state.present["joints"][rows])
        return self.history.stage(rows, track, K=self.K, text=text, seeds=seeds, hidden=hidden)

    @stateful
    def observe(
        self,
        frames: Tensor,  # (R, T, H, W, 3) uint8
        track: Track,  # each (R, F, ...)
        rows: Tensor,  # (R,) int64
    ) -> None:
        """Remember a real chunk of some rows as if it had been generated."""
        bank, screen, never = self.state.bank, self.state.screen, torch.zeros(len(rows), dtype=torch.bool)
        all_given = bank.given[rows] >= bank.length[rows]
        latents, recorded = self._encode_behind(frames, rows), None
        if self.history.records:
            staged = self._stage(track, rows, hidden=never)
            recorded = self.history.encode(staged).record(latents)
        bank.append(rows, latents, track)
        self.history.record(rows, recorded, track)
        if self.state.window is not None:
            self.state.window.drop(rows)
        if self.shows:
            before = screen.frames[rows]
            for i, latent in enumerate(latents.split(1, dim=1)):
                screen.show(rows, latent, begun=~never, invented=never)
                shown = frames[:, i * self.spec.frames_per_latent : (i + 1) * self.spec.frames_per_latent]
                self.state.events.read(rows, before, shown, track.at((slice(None), i)), self.spec)
                before = shown[:, -1]
        screen.frames[rows] = frames[:, -1]
        for some, given in ((all_given, True), (~all_given, False)):
            self.history.show(rows[some], frames[some, -1:], given=given)

    def _encode_behind(self, frames: Tensor, rows: Tensor) -> Tensor:
        """Encode a chunk (R, T, H, W, 3) behind the newest latents of these rows, (R, F, C, h, w)."""
        vae, bank, latents = self.world.vae, self.state.bank, []
        for row, chunk in zip(rows.tolist(), frames, strict=True):
            past = bank.latents[row, max(0, int(bank.length[row]) - LOOKS_BACK) : int(bank.length[row])]
            before = vae.decode(past[None].to(self.device)).clamp(-1, 1)
            pixels = torch.cat([before.to(vae.dtype), to_pixels(chunk[None]).to(self.device, vae.dtype)], 1)
            latents.append(vae.encode(pixels)[:, len(past) :])
        return torch.cat(latents)

    def _denoise(self, staged: Staged, rows: Tensor, first: Tensor, given: Tensor) -> tuple[Tensor, KeysValues | None]:
        """Denoise one chunk by itself; ``given`` rows (R,) have their start view in it."""
        state, shape = self.state, (self.spec.chunk_latents, *self.world.latent_shape)
        noise = state.take_noise(rows, state.bank.length[rows].masked_fill(first, 0), shape).to(self.device)
        known = None
        if given.any():
            mask = given[:, None] & (torch.arange(shape[0]) == 0)
            start = state.bank.latents[rows, :1].expand(-1, shape[0], -1, -1, -1)
            known = Known(mask.to(self.device), start.to(self.device))
        fresh = self.sampler.num_steps - 1 if self.sampler.stochastic else 0
        later = [state.generators.normal(rows.tolist(), shape).to(self.device) for _ in range(fresh)]
        latents, recorded, doubt = self.call(self._chunk, staged, noise, later, known, key=self.history.address)
        if state.doubt is not None:
            state.doubt.note(rows, doubt)
        return latents, recorded

    def _chunk(
        self, staged: Staged, noise: Tensor, later: list[Tensor], known: Known | None
    ) -> tuple[Tensor, KeysValues | None, Tensor | None]:
        """Encode, denoise and record: latents (B, F, C, h, w), their keys and values if the memory keeps them, and how
        far they are to be trusted (B,) if somebody asks.
        """
        prepared, asked = self.history.encode(staged), self.state.doubt
        latents = generate_chunk(prepared, noise, self.sampler, known=known, renoise=iter(later).__next__)
        doubt = None if asked is None else disagreement(prepared, latents, asked.noise, self.sampler)
        return latents, prepared.record(latents) if self.history.records else None, doubt

    def _draw(self, rows: Tensor, num_chunks: int) -> Tensor:
        """Draw noise for masked rows (B,), (B, chunks F, C, h, w); zeros elsewhere."""
        shape = (num_chunks * self.spec.chunk_latents, *self.world.latent_shape)
        return self.state.draw(rows, shape).to(self.device)
