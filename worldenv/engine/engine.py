"""The engine: a generated world as ``Dynamics``, a batch of envs advancing in lockstep, one chunk per step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..base.config import to_dict
from ..base.device import stateful, threads_for
from ..base.rng import draw_start
from ..diffusion.schedule import SamplerConfig
from ..dynamics.protocol import Actions, Chunk
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec, frames_of
from ..geometry.action import keys_to_label
from ..geometry.camera import normalise_intrinsics
from ..memory.config import MemoryConfig
from ..models.codec import to_pixels
from ..models.types import KeysValues
from ..world.world import World
from .capture import Recorder, graph_recorder, run_eagerly
from .check_state import check_state
from .history import History
from .rollout import Known, Staged, generate_chunk
from .screen import Screen
from .state import EngineState
from .window import RollingWindow

THREADS_FROM = 2**17
"""Numbers in a layer's activations of a chunk from which several CPU threads are worth waking; measured."""


class Engine:
    """Steps B episodes of one world.

    Row b depends on its own seed, start and actions alone; rows reset at chunk borders, by mask.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        *,
        memory: MemoryConfig | None = None,
        sampler: SamplerConfig | None = None,
        chunk_latents: int | None = None,
        decode: bool = True,
        capture: bool = False,  # launch chunks as CUDA graphs
    ) -> None:
        self.world, self.num_envs, self.decode = world, num_envs, decode
        self.spec: WorldSpec = replace(world.spec, chunk_latents=chunk_latents or world.spec.chunk_latents)
        if self.spec.start_in_chunk and self.spec.chunk_latents < 2:
            raise ValueError("this world has its start view in the first chunk; chunk_latents must be at least 2")
        self.memory = memory or world.config.memory
        self.sampler = sampler or world.config.sampler
        self.device = world.vae.latent_mean.device
        self.K = normalise_intrinsics(self.spec.K, width=self.spec.width, height=self.spec.height)
        self.history = History(world, self.spec, self.memory, num_envs)
        self._shows = decode or self.history.renderer is not None
        self._call = self._caller(capture)
        screen = Screen(world.vae, num_envs, self.spec, self._call)
        self._state = EngineState.empty(num_envs, self.history, screen)
        if self.sampler.rolling:
            self._state.window = RollingWindow.empty(num_envs, self.spec, self.sampler, world.latent_shape)

    def _caller(self, capture: bool) -> Callable[..., Any]:
        """Return what runs the device's part of a chunk."""
        if not capture:
            return run_eagerly
        if self.device.type != "cuda" or self.sampler.rolling:
            why = "chunks of a rolling window" if self.sampler.rolling else f"a world on {self.device}"
            raise ValueError(f"capture=True records CUDA graphs of single chunks, not of {why}; set capture=False")
        return Recorder(graph_recorder(self.device))

    @property
    def c2w(self) -> Tensor:
        """Current pose of each env, (B, 4, 4) float64."""
        return self._state.c2w

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, (C, h, w)."""
        return self.world.latent_shape

    @property
    def takes_prompts(self) -> bool:
        """Whether the world was trained with text."""
        return self.world.prompts is not None

    def encode_prompt(self, prompt: str) -> Tensor:
        """Return a prompt's embedding, (1, L, text_dim)."""
        return self.world.require_prompts()(prompt)

    def identity(self) -> dict[str, object]:
        """Return weights, memory, sampler and precision, which states hold for."""
        return {
            "world": self.world.fingerprint(), "memory": to_dict(self.memory), "sampler": to_dict(self.sampler),
            "computation": self.world.identity()["computation"],
        }  # fmt: skip

    def explain(self) -> dict[str, Tensor]:
        """Return how many ``chunks`` each env remembers, and what ``History.explain`` says of the newest one."""
        return {"chunks": self.memory_chunks, **self.history.explain()}

    @property
    def memory_chunks(self) -> Tensor:
        """Entries each env remembers, (B,) int64: all of them, or those that ``worldscape`` keeps."""
        if self.history.store is not None:
            return self.history.store.count.clone()
        return (self._state.bank.length + self.spec.chunk_latents - 1) // self.spec.chunk_latents

    @stateful
    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
        images: Tensor | None = None,  # (B, H, W, 3) uint8: start from these pictures instead
        c2w: Tensor | None = None,  # (B, 4, 4): at these poses (default: the origin, looking ahead)
    ) -> Chunk:
        """Begin episodes from start views of the world, or from pictures.

        A world that has its start view in the first chunk and no start views of its own invents one from the prompt;
        until then the view is black.
        """
        rows = torch.arange(self.num_envs) if mask is None else mask.nonzero()[:, 0]
        origin = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1) if c2w is None else c2w[rows]
        if images is not None:
            frames, c2w = images[rows], origin
        elif self.spec.start_in_chunk and self.world.starts is None:
            self._state.screen.frames[rows] = 0
            none = torch.zeros(len(rows), 0, *self.world.latent_shape)
            self.begin(rows, none, origin, [seeds[r] for r in rows.tolist()])
            return Chunk(self._state.screen.frames[:, None].clone(), self.c2w[:, None])
        else:
            views = self.world.require_starts()
            index = torch.tensor([draw_start(len(views), seeds[r], starts[r]) for r in rows.tolist()], dtype=torch.long)
            frames, c2w = views.frames[index], views.c2w[index]
        self._begin(rows, frames[:, None], c2w[:, None], [seeds[r] for r in rows.tolist()])
        return Chunk(self._state.screen.frames[:, None].clone(), self.c2w[:, None])

    @stateful
    def resume(
        self,
        frames: Tensor,  # (B, 4 F - 3, H, W, 3) uint8
        c2w: Tensor,  # (B, F, 4, 4): the pose of every fourth frame, from the first
        *,
        seeds: Sequence[int],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes from clips: what they show is remembered, and the next chunk goes on from their end.

        Raises:
            ValueError: if the clips are not a start view and whole chunks.
        """
        self.check_clip(frames, c2w)
        rows = torch.arange(self.num_envs) if mask is None else mask.nonzero()[:, 0]
        self._begin(rows, frames[rows], c2w[rows].double(), [seeds[r] for r in rows.tolist()])
        return Chunk(self._state.screen.frames[:, None].clone(), self.c2w[:, None])

    def check_clip(self, frames: Tensor, c2w: Tensor) -> None:
        """Refuse clips that ``resume`` cannot go on from."""
        chunk, count = self.spec.chunk_latents, c2w.shape[1]
        rest = (count - (0 if self.spec.start_in_chunk else 1)) % chunk
        if (rest and count > 1) or frames.shape[1] != frames_of(count):
            first = frames_of(chunk) if self.spec.start_in_chunk else 1
            raise ValueError(
                f"a clip of {frames.shape[1]} frames with {count} poses; pass {first} + {FRAMES_PER_LATENT * chunk} N "
                f"frames and one pose for every {FRAMES_PER_LATENT} of them, from the first"
            )

    @stateful
    def _begin(self, rows: Tensor, frames: Tensor, c2w: Tensor, seeds: list[int]) -> None:
        vae = self.world.vae
        pixels = to_pixels(frames).to(self.device, vae.dtype)
        latents = torch.cat([vae.encode(row[None]) for row in pixels])  # one by one: equal in any batch
        self._state.screen.frames[rows] = frames[:, -1]
        self.begin(rows, latents, c2w[:, 0], seeds, path=c2w[:, 1:], frames=frames)

    @stateful
    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w): the start view's latent, none (the model invents it), or a clip's
        c2w: Tensor,  # (R, 4, 4) where the episode begins
        seeds: list[int],
        *,
        path: Tensor | None = None,  # (R, F - 1, 4, 4): the further poses of a clip
        noise: Tensor | None = None,  # (R, horizon, C, h, w) instead of drawing it, until any row begins anew
        frames: Tensor | None = None,  # (R, 4 F - 3, H, W, 3) uint8: what was encoded; decoded if it is needed
    ) -> None:
        """Begin episodes from encoded start views or clips."""
        state, horizon = self._state, self.sampler.noise_horizon
        if not latents.shape[1] and not self.spec.start_in_chunk:
            raise ValueError(f"world {self.world.config.name!r} invents no start view; pass one")
        state.begin(rows, c2w, seeds)
        whole = c2w[:, None] if path is None else torch.cat([c2w[:, None], path], 1)
        still = torch.zeros(len(rows), 1, 2, dtype=torch.long)
        labels = keys_to_label(torch.cat([still, self.spec.keys_along(whole)], 1))
        whole, labels = whole[:, : latents.shape[1]], labels[:, : latents.shape[1]]
        text = state.text_batch(rows.tolist())
        self.history.begin(rows, latents, whole, labels, K=self.K, text=text)
        if noise is not None:
            state.set_noise(rows, noise)
        elif horizon:
            state.draw_ahead(rows, self.world.latent_shape, horizon)
        else:
            state.noise = None
        if self._shows and latents.shape[1]:
            decoded = state.screen.begin(rows, latents)
            shown = (decoded if frames is None else frames)[:, ::FRAMES_PER_LATENT]
            self.history.show(rows, shown, given=frames is not None)

    @stateful
    def set_prompt(
        self,
        prompt: str | Tensor,  # a tensor is a prompt's embedding, (1, L, text_dim)
        rows: Sequence[int] | None = None,
    ) -> None:
        """Describe the world of some rows (all by default) from the next chunk on; its keys are computed once.

        Keys and values that the memory keeps are made anew under it; pictures, poses and recent motion stay.

        Raises:
            ValueError: if the world has no text, or the prompt cannot be encoded.
        """
        if isinstance(prompt, str):
            prompt = self.world.require_prompts()(prompt)
        chosen = list(range(self.num_envs) if rows is None else rows)
        self._state.describe(chosen, prompt.to(self.device))
        self._state.stale |= set(chosen)

    def step(self, actions: Actions) -> Chunk:
        """Generate the next chunk of every env and decode it."""
        spec, length = self.spec, self._state.bank.length.clone()
        frames, first = list(self.stream(actions)), self._first(length)
        n_frames = torch.full((self.num_envs,), spec.chunk_frames)
        n_frames[first] -= FRAMES_PER_LATENT - (length[first] == 0).long()
        c2w = self._placed(actions, first).c2w
        if not self.decode:
            return Chunk(self._state.screen.frames[:, None].clone(), c2w)
        return Chunk(torch.cat(frames, 1), c2w, n_frames=n_frames)

    @stateful
    def stream(self, actions: Actions) -> Iterator[Tensor]:
        """Generate the next chunk and yield its frames as they are decoded, (B, 4, H, W, 3) uint8 per latent.

        The iterator must be exhausted before the next call. Where a first chunk contains the start view, that view
        fills the four frames of its latent.
        """
        length = self._state.bank.length.clone()
        first, latents = self._first(length), self._generate(actions)
        if not self._shows:
            return
        for i, latent in enumerate(latents.split(1, dim=1)):
            starting = first & (i == 0)
            frames = self._state.screen.show(latent, begun=~starting, invented=starting & (length == 0))
            yield frames
        self.history.show(torch.arange(self.num_envs), frames[:, -1:])

    def _first(self, length: Tensor) -> Tensor:
        """Tell which rows come to their first chunk and have the start view in it; (B,) bool."""
        return (length <= 1) & self.spec.start_in_chunk

    def _placed(self, actions: Actions, first: Tensor) -> Actions:
        """Put the start pose in front of first chunks that contain it; their last command is dropped."""
        if not first.any():
            return actions
        state, rows = self._state, first[:, None, None]
        still = torch.zeros_like(actions.keys[:, :1])
        late_keys = torch.cat([still, actions.keys[:, :-1]], 1)
        late_c2w = torch.cat([state.origin[:, None], actions.c2w[:, :-1]], 1)
        return Actions(torch.where(rows, late_keys, actions.keys), torch.where(rows[..., None], late_c2w, actions.c2w))

    def generate(self, actions: Actions) -> Tensor:
        """Generate and remember the next chunk's latents, (B, F, C, h, w); decoded only if memory is rendered."""
        if self.history.renderer is None:
            return self._generate(actions)
        for _ in self.stream(actions):
            pass
        return self.newest_latents()

    @stateful
    def _generate(self, actions: Actions) -> Tensor:
        """Generate and remember the next chunk's latents, (B, F, C, h, w)."""
        state, window = self._state, self._state.window
        first = self._first(state.bank.length)
        given = first & (state.bank.length > 0)
        placed = self._placed(actions, first)
        labels = keys_to_label(placed.keys)
        for row in sorted(state.stale):
            self.history.recache(row, K=self.K, text=state.text_batch([row]))
        state.stale.clear()
        path = (placed.c2w, labels) if window is None else window.look_ahead(state.bank, placed.c2w, labels)
        staged = self.history.stage(*path, K=self.K, text=state.text_batch(), seeds=state.seeds, hidden=first)
        size = placed.keys.shape[0] * placed.keys.shape[1] * self.world.dit.latent_size(self.world.latent_shape)
        with threads_for(size, enough=THREADS_FROM, device=self.device):
            if window is None:
                latents, recorded = self._denoise(staged, first, given)
            else:
                prepared = self.history.encode(staged)
                latents = window.advance(prepared, self._draw)
                recorded = prepared.record(latents) if self.history.records else None
        for rows, new in ((given, slice(1, None)), (~given, slice(None))):
            index = rows.nonzero()[:, 0]
            state.bank.append(index, latents[index.to(self.device), new], placed.c2w[index, new], labels[index, new])
        self.history.record(torch.arange(self.num_envs), recorded, placed.c2w)
        return latents

    def _denoise(self, staged: Staged, first: Tensor, given: Tensor) -> tuple[Tensor, KeysValues | None]:
        """Denoise one chunk by itself; ``given`` rows (B,) have their start view in it."""
        state, chunk = self._state, self.spec.chunk_latents
        noise = state.take_noise(state.bank.length.masked_fill(first, 0), (chunk, *self.world.latent_shape)).to(
            self.device
        )
        known = None
        if given.any():
            mask = given[:, None] & (torch.arange(chunk) == 0)
            known = Known(mask.to(self.device), state.bank.latents[:, :1].expand(-1, chunk, -1, -1, -1).to(self.device))
        every, fresh = torch.ones_like(first), self.sampler.num_steps - 1 if self.sampler.stochastic else 0
        later = [self._draw(every, 1) for _ in range(fresh)]
        made: tuple[Tensor, KeysValues | None] = self._call(
            self._chunk, staged, noise, later, known, key=self.history.address
        )
        return made

    def _chunk(
        self, staged: Staged, noise: Tensor, later: list[Tensor], known: Known | None
    ) -> tuple[Tensor, KeysValues | None]:
        """Encode, denoise and record: latents (B, F, C, h, w), and their keys and values if the memory keeps them."""
        prepared = self.history.encode(staged)
        latents = generate_chunk(prepared, noise, self.sampler, known=known, renoise=iter(later).__next__)
        return latents, prepared.record(latents) if self.history.records else None

    def _draw(self, rows: Tensor, num_chunks: int) -> Tensor:
        """Draw noise for masked rows (B,), (B, chunks F, C, h, w); zeros elsewhere."""
        shape = (num_chunks * self.spec.chunk_latents, *self.world.latent_shape)
        return self._state.draw(rows, shape).to(self.device)

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32; after a reset latent 0, repeated."""
        bank, chunk = self._state.bank, self.spec.chunk_latents
        index = (bank.length[:, None] - chunk + torch.arange(chunk)).clamp(min=0)
        return bank.latents[torch.arange(self.num_envs)[:, None], index]

    def follow(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Chunk:
        """Generate along exactly this path; keys are read off the motion. F is a multiple of the chunk."""
        chunk, parts = self.spec.chunk_latents, []
        if c2w.shape[1] % chunk:
            raise ValueError(f"a path of {c2w.shape[1]} latents is not a multiple of chunk_latents={chunk}")
        for poses in c2w.split(chunk, 1):
            parts.append(self.step(Actions(self.path_keys(poses), poses)))
        return Chunk(torch.cat([p.frames for p in parts], 1), c2w)

    def path_keys(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Tensor:
        """Label a path that starts at the current poses; (B, F, 2)."""
        return self.spec.keys_along(torch.cat([self.c2w[:, None], c2w], 1))

    def reseed(self, seeds: Sequence[int]) -> None:
        """Let every row's noise go on from a new seed: a suite does so before each chunk, to keep its arms paired."""
        for row, seed in enumerate(seeds):
            self._state.generators.seed(row, seed)

    @stateful
    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows as a dictionary of tensors, each with a leading row axis."""
        self.check_rows(rows)
        return self._state.clone(rows)

    @stateful
    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows, exactly as those will; kept keys and values are shared.

        Args:
            source: rows to continue.
            rows: rows that continue them, as many, whatever they did before.
            reseed: new seeds for the forks' random numbers, so that they go on differently.

        Raises:
            ValueError: if the numbers of rows differ, or a row would be both trunk and fork.
        """
        if len(source) != len(rows) or set(source) & set(rows):
            raise ValueError(f"cannot fork rows {list(source)} onto {list(rows)}; name as many others, each once")
        if reseed is not None and len(reseed) != len(rows):
            raise ValueError(f"reseed holds {len(reseed)} seeds for {len(rows)} rows")
        self.check_rows(rows)
        for row in source:
            self.check_rows([row])
        self._state.fork(source, rows, reseed)

    @stateful
    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows, exactly as they would have gone on.

        Raises:
            ValueError: if it is no state of this engine; then nothing has changed.
        """
        self.check_rows(rows)
        check_state(self._state, tensors, len(rows))
        self._state.restore(tensors, rows, device=self.device)

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice."""
        if len(set(rows)) != len(rows) or any(not 0 <= row < self.num_envs for row in rows):
            raise ValueError(f"rows {list(rows)} must be different ones of 0..{self.num_envs - 1}")
