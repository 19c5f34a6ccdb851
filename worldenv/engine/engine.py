"""The engine: a generated world as ``Dynamics``, a batch of envs that advance one chunk per step, all or some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..base.config import to_dict
from ..base.device import stateful, warn_if_slow
from ..bodies.registry import bodies_of
from ..diffusion.schedule import SamplerConfig
from ..dynamics.protocol import Chunk, check_fork, check_rows
from ..dynamics.signals import DEPTH, Signals, Track, check_signals
from ..dynamics.spec import WorldSpec
from ..memory.config import MemoryConfig
from ..memory.select import Policy
from ..world.histories import Histories
from ..world.world import World
from .beginnings import Beginnings
from .capture import Recorder, graph_recorder, run_eagerly
from .check_state import check_state
from .doubt import Doubt
from .events import Events
from .history import History
from .robot import RobotSignals
from .screen import Screen
from .state import EngineState
from .stepper import Stepper
from .window import RollingWindow

Decoded = tuple[Tensor, dict[str, Tensor]]
"""Frames of a latent, (R, 4, H, W, 3) uint8, and what heads say of it, each (R,)."""
LATER = ("kept",)
"""Settings of memory that came after states were first saved: those hold where they are as usual."""
Watch = Callable[[list[int], int, Tensor], None]
"""Is shown each latent of a step as it is decoded: rows, the latent's number in its chunk, frames (R, 4, H, W, 3)."""


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
        choose: Policy | None = None,  # a memory policy of one's own, within the budgets of ``memory``
        walls: bool = False,  # whether what was seen to be solid stops cameras that are stepped; see ``has_walls``
        begins: Histories | None = None,  # what episodes begin after, the world's clips or moments; None: start views
        doubts: bool = False,  # whether to tell how far each chunk is to be trusted, for one more evaluation
    ) -> None:
        self.world, self.num_envs, self.decode = world, num_envs, decode
        self.begins = begins
        known = {name: signal for name, signal in world.spec.gives.items() if name in world.spec.takes}
        if world.renders(memory or world.config.memory):
            known["depth"] = DEPTH
        self.robot = RobotSignals.of(world.spec)
        known |= {} if self.robot is None else self.robot.gives
        shows = decode or "depth" in known
        events = Events(world, num_envs, doubts=doubts)
        known |= events.gives if shows else {}
        chunk_latents = chunk_latents or world.spec.chunk_latents
        self.spec: WorldSpec = replace(world.spec, chunk_latents=chunk_latents, gives=known)  # more it does not know
        if self.spec.start_in_chunk and self.spec.chunk_latents < 2:
            raise ValueError("this world has its start view in the first chunk; chunk_latents must be at least 2")
        self.memory = memory or world.config.memory
        self.sampler = sampler or world.config.sampler
        self.device = world.vae.latent_mean.device
        self.watch: Watch | None = None
        warn_if_slow(world.vae.dtype, self.device)
        history = History(world, self.spec, self.memory, num_envs, choose=choose, sampler=self.sampler, walls=walls)
        self.history = history
        self._choice = {} if choose is None else {"policy": _name(choose)}
        call = self._caller(capture)
        screen = Screen(world.vae, num_envs, self.spec, call)
        self._state = EngineState.empty(num_envs, self.history, screen, events)
        if doubts:
            if self.sampler.rolling:
                raise ValueError("a rolling window has no last step of a chunk to take again; it tells no uncertainty")
            self._state.doubt = Doubt(num_envs, (chunk_latents, *world.latent_shape), world.config.doubt, self.device)
        self._stepper = Stepper(world, self.spec, self.sampler, self._state, call=call, shows=shows)
        self._beginnings = Beginnings(world, self.spec, self._state, self._stepper, begins)
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
    def present(self) -> dict[str, Tensor]:
        """What the world gives of each env's newest latent, each (B, ...)."""
        now: dict[str, Tensor] = self._state.present | self._state.events.present
        if self.robot is not None:
            now |= self.robot.at(self._state.joints_before(), now["joints"])
        if "depth" in self.spec.gives:
            now = now | {"depth": self._depth()}
        return {name: now[name] for name in self.spec.gives}

    def _depth(self) -> Tensor:
        """Return the depth of each env's newest view, (B, H, W) metres, where memory is rendered."""
        assert self.history.views is not None
        return self.history.views.depth()

    @property
    def K(self) -> Tensor:
        """Normalised intrinsics, (3, 3), which a path of its own may change."""
        return self._stepper.K

    @K.setter
    def K(self, K: Tensor) -> None:
        self._stepper.K = K

    @property
    def c2w(self) -> Tensor:
        """Current pose of each env, (B, 4, 4) float64, in worlds with a camera."""
        return self._state.present["c2w"]

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
        usual = to_dict(MemoryConfig())
        memory = {k: v for k, v in to_dict(self.memory).items() if k not in LATER or v != usual[k]}
        return {
            "world": self.world.fingerprint(),
            "memory": memory | self._choice | {"walls": self.history.walls is not None},
            "sampler": to_dict(self.sampler),
            "computation": self.world.identity()["computation"],
            **({"moments": True} if self.begins is not None and self.begins is self.world.moments else {}),
        }

    def explain(self) -> dict[str, Tensor]:
        """Return how many ``chunks`` each env remembers, and what ``History.explain`` says of the newest one."""
        return {"chunks": self.memory_chunks, **self.history.explain()}

    @property
    def doubts(self) -> bool:
        """Whether it tells how far chunks are to be trusted."""
        return self._state.doubt is not None

    @property
    def uncertainty_limit(self) -> float:
        """What uncertainty seldom exceeds on recordings; 0 is not known."""
        return self.world.config.doubt.limit

    def uncertainty(self) -> Tensor:
        """Return how far each env's newest chunk is to be doubted, (B,): 1 is as usual, 0 what was recorded."""
        assert self._state.doubt is not None
        return self._state.doubt.uncertainty(self._state.events)

    def doubt_signals(self) -> dict[str, Tensor]:
        """Return what uncertainty is made of, each (B,)."""
        assert self._state.doubt is not None
        return self._state.doubt.signals(self._state.events)

    def known(self) -> Tensor | None:
        """Return which share of each env's newest chunk was remembered, not invented, (B,); None where memory is not
        rendered.
        """
        views = self.history.views
        return None if views is None else views.known.mean((1, 2, 3))

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as people are shown them; see ``World.enlarge``."""
        return self.world.enlarge(frames)

    @property
    def memory_chunks(self) -> Tensor:
        """Entries each env remembers, (B,) int64: all of them, or those whose keys and values are kept."""
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
    ) -> Chunk:
        """Begin episodes from the world's start views or after its histories; ``resume`` begins them from pictures."""
        rows = _masked(self.num_envs, mask)
        self._beginnings.draw(rows, [seeds[r] for r in rows.tolist()], [starts[r] for r in rows.tolist()])
        return self._view()

    @stateful
    def resume(
        self,
        frames: Tensor,  # (B, 4 F - 3, H, W, 3) uint8
        track: Signals,  # each (B, F, ...): what led to every fourth frame, from the first; see ``WorldSpec.complete``
        *,
        seeds: Sequence[int],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes from clips: what they show is remembered, and the next chunk goes on from their end.

        Raises:
            ValueError: if the clips are not a start view and whole chunks.
        """
        self.check_clip(frames, track)
        rows = _masked(self.num_envs, mask)
        given = {name: part[rows] for name, part in track.items()}
        self._beginnings.shown(rows, frames[rows], given, [seeds[r] for r in rows.tolist()])
        return self._view()

    def _view(self) -> Chunk:
        """Return the newest frame of every env."""
        now = {name: part[:, None] for name, part in self.present.items()}
        return Chunk(self._state.screen.frames[:, None].clone(), now)

    def check_clip(self, frames: Tensor, track: Signals) -> None:
        """Refuse clips that ``resume`` cannot go on from."""
        self._beginnings.check_clip(frames, track)

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w): the start view's latent, none (the model invents it), or a clip's
        track: Signals,  # each (R, F, ...), or (R, 1, ...) where there are no latents: see ``WorldSpec.complete``
        seeds: list[int],
        *,
        noise: Tensor | None = None,  # (R, horizon, C, h, w) instead of drawing it, until any row begins anew
        frames: Tensor | None = None,  # (R, 4 F - 3, H, W, 3) uint8: what was encoded; decoded if it is needed
    ) -> None:
        """Begin episodes from encoded start views or clips."""
        self._beginnings.encoded(rows, latents, track, seeds, noise=noise, frames=frames)

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
            prompt = self.encode_prompt(prompt)
        chosen = list(range(self.num_envs) if rows is None else rows)
        self._state.describe(chosen, prompt.to(self.device))
        self._state.stale |= set(chosen)

    def step(self, commands: Signals, rows: Sequence[int] | None = None) -> Chunk:
        """Generate the next chunk of some envs, by default all, and decode it.

        Args:
            commands: what ``spec.takes`` declares, each (R, F, ...), one row for each of ``rows``.
            rows: envs that advance; the others stay as they are, to the last bit.

        Raises:
            ValueError: on commands that the world does not take, or rows that do not exist; then nothing has changed.
        """
        index, track, order = self._asked(commands, rows)
        return self._advance(index, self._stepper.realised(track, index), order)

    def _advance(self, index: Tensor, track: Track, order: Tensor | slice) -> Chunk:
        """Generate and decode the next chunk of some rows, which ascend, along exactly this track."""
        spec, length = self.spec, self._state.bank.length[index]
        joints = None if self.robot is None else self._state.present["joints"][index]
        streamed, first = self._watched(self._stepper.stream(track, index), index), self._stepper.first(length)
        n_frames = torch.full((len(index),), spec.chunk_frames)
        n_frames[first] -= spec.frames_per_latent - (length[first] == 0).long()
        placed = self._stepper.placed(track, index, first)
        given = {name: placed[name][order].clone() for name in spec.gives if name in placed}
        if self.robot is not None and joints is not None:
            given |= {name: part[order] for name, part in self.robot.along(joints, placed["joints"]).items()}
        for name in self._state.events.gives if streamed else ():  # whoever decodes nothing is told nothing
            given[name] = torch.stack([told[name] for _, told in streamed], 1)[order]
        if "depth" in spec.gives:
            given["depth"] = self._depth()[index, None][order]
        if not self.decode:
            return Chunk(self._state.screen.frames[index, None][order], given)
        return Chunk(torch.cat([frames for frames, _ in streamed], 1)[order], given, n_frames[order])

    def _watched(self, stream: Iterator[Decoded], index: Tensor) -> list[Decoded]:
        """Exhaust a stream of latents, showing each to who watches as soon as it is there."""
        streamed: list[Decoded] = []
        for decoded in stream:
            if self.watch is not None:
                self.watch(index.tolist(), len(streamed), decoded[0])
            streamed.append(decoded)
        return streamed

    def _asked(self, commands: Signals, rows: Sequence[int] | None) -> tuple[Tensor, Track, Tensor | slice]:
        """Check what is asked of which envs: these (R,) int64, ascending, their commands, and the order asked for."""
        if rows is None:
            return torch.arange(self.num_envs), self._commands(commands, range(self.num_envs)), slice(None)
        self.check_rows(rows)
        if len(rows) < self.num_envs and self._state.window is not None:
            raise ValueError("rows of a rolling window advance together; leave rows out")
        index, sorting = torch.tensor(list(rows), dtype=torch.long).sort()
        return index, self._commands(commands, rows).at(sorting), sorting.argsort()

    def _commands(self, commands: Signals, rows: Sequence[int]) -> Track:
        """Check commands, each (R, F, ...), and give them the types that memory has; a body that is not told rests."""
        lacking = self.spec.takes.keys() - commands.keys()
        if lacking and any(body.takes.keys() <= commands.keys() for body in bodies_of(self.spec)):
            present = {name: part[list(rows)] for name, part in self._state.present.items()}
            commands = self.spec.at_rest(Track(commands), present)
        check_signals(commands, self.spec.takes, what="commands", lead=(len(rows), self.spec.chunk_latents))
        return Track({name: commands[name].to(getattr(torch, s.dtype)) for name, s in self.spec.takes.items()})

    def stream(self, commands: Signals) -> Iterator[Tensor]:
        """Generate every env's next chunk and yield its frames as they are decoded, (B, 4, H, W, 3) uint8 per latent.

        The iterator must be exhausted before the next call. Where a first chunk contains the start view, that view
        fills the four frames of its latent.
        """
        index, track, _ = self._asked(commands, None)
        return (frames for frames, _ in self._stepper.stream(self._stepper.realised(track, index), index))

    def generate(self, commands: Signals) -> Tensor:
        """Generate and remember the next chunk's latents, (B, F, C, h, w); decoded only if memory is rendered."""
        if self.history.views is None:
            index, track, _ = self._asked(commands, None)
            return self._stepper.generate(track, index)
        for _ in self.stream(commands):
            pass
        return self.newest_latents()

    def observe(
        self,
        frames: Tensor,  # (R, T, H, W, 3) uint8: a real chunk
        commands: Signals,  # each (R, F, ...)
        rows: Sequence[int] | None = None,
    ) -> None:
        """Remember what really happened as the next chunk of some envs, in place of ``step``, which imagines it.

        Its latents are encoded behind what the last ones show, as the VAE looks back.

        Raises:
            ValueError: on frames that are no chunk of this world, or where the start view belongs to the first chunk.
        """
        spec, (index, track, order) = self.spec, self._asked(commands, rows)
        wanted = (len(index), spec.chunk_frames, spec.height, spec.width, 3)
        if tuple(frames.shape) != wanted or frames.dtype != torch.uint8:
            raise ValueError(f"frames are {frames.dtype} {tuple(frames.shape)}, a chunk is uint8 {wanted}")
        if self._stepper.first(self._state.bank.length[index]).any():
            raise ValueError("this world has its start view in its first chunk; begin with a clip, by resume")
        sorting = order.argsort() if isinstance(order, Tensor) else order
        self._stepper.observe(frames[sorting], track, index)

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
        self.spec.require_camera("following a path")
        chunk, parts = self.spec.chunk_latents, []
        if c2w.shape[1] % chunk:
            raise ValueError(f"a path of {c2w.shape[1]} latents is not a multiple of chunk_latents={chunk}")
        for poses in c2w.split(chunk, 1):
            parts.append(self._advance(*self._asked(Track(keys=self.path_keys(poses), c2w=poses), None)))
        every = [name for name in self._state.events.gives if name in self.spec.gives]
        told = {name: torch.cat([p.signals[name] for p in parts], 1) for name in every}
        return Chunk(torch.cat([p.frames for p in parts], 1), {**parts[-1].signals, **told, "c2w": c2w})

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
        check_fork(source, rows, reseed, self.num_envs)
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
        check_rows(rows, self.num_envs)


def _masked(num_envs: int, mask: Tensor | None) -> Tensor:
    """Return the rows of a mask (B,) bool, by default all."""
    return torch.arange(num_envs) if mask is None else mask.nonzero()[:, 0]


def _name(policy: Policy) -> str:
    """Name somebody's memory policy, which states hold for: its class and settings, or the function."""
    kind = policy if isinstance(policy, FunctionType) else type(policy)
    settings = repr(policy) if is_dataclass(policy) else ""
    return f"{kind.__module__}:{kind.__qualname__} {settings}".strip()
