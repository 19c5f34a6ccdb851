"""The arms of a suite: who makes the frames, under which memory, and the controls that show what a metric is worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ...base.rng import derive_seed
from ...dynamics.spec import WorldSpec, frame_path
from ...engine.engine import Engine
from ...engine.render import Renderer
from ...geometry.splat import splat
from ...memory.config import MemoryConfig, with_policy
from ...memory.context import Context
from ...models.codec import to_frames, to_pixels
from ...training.augment import round_trip
from ...world.world import World
from .cases import PROTOCOL, Cases


@dataclass
class Progress:
    """What a run tells while it goes."""

    advance: Callable[[], None] = lambda: None
    seconds: list[float] | None = None  # of every chunk made by a world, where somebody wants to know
    given_frames: int = 0  # behind the start view, that an arm was given instead of making them

    def chunk(self, seconds: float) -> None:
        """Note a chunk."""
        self.advance()
        if self.seconds is not None:
            self.seconds.append(seconds)


Make = Callable[[Cases, Progress], Tensor]
"""Shows cases: returns frames (B, T, H, W, 3) uint8, the start view first."""
ContextEdit = Callable[[Context], Context]


@dataclass(frozen=True)
class WorldArm:
    """A world under one memory."""

    world: World
    memory: MemoryConfig
    swapped: bool = False
    """Whether the second half of a path is given another world's memory."""
    other_actions: bool = False
    """Whether every case is given the next one's actions."""
    given: int = 0
    """Chunks at the beginning of a path that are remembered as they truly were, instead of made."""
    rendered_alone: bool = False
    """Whether rendered memory is all that is left of what lies before the newest chunk."""
    depth_noise: float = 0.0
    """Standard deviation of noise on the depth that memory is rendered with, in the head's own expected errors."""

    def __call__(self, cases: Cases, progress: Progress) -> Tensor:
        """Step all cases as one batch. Noise is a hash of case and chunk: the same in every arm."""
        batch, chunk = len(cases), self.world.spec.chunk_latents
        engine = Engine(self.world, batch, memory=self.memory)
        if self.memory.policy == "oracle":
            if cases.overlap is None:
                raise ValueError("policy 'oracle' needs cases made with depth=True")
            overlap = cases.overlap
            engine.history.oracle = lambda length: overlap[:, (int(length[0]) - 1) // chunk]
        if self.other_actions:
            cases = with_other_actions(cases)
        if self.rendered_alone:
            engine.history.edit = partial(newest_only, count=chunk)
        identity = _identities(cases)
        if self.depth_noise and engine.history.views is not None:
            generator = torch.Generator().manual_seed(derive_seed(*identity, "depth"))
            engine.history.views.renderer.disturb = partial(disturbed, times=self.depth_noise, generator=generator)
        progress.given_frames = self.given * self.world.spec.chunk_frames
        frames = [cases.frames[:, : 1 + progress.given_frames]]
        path = torch.cat([cases.start_c2w[:, None], cases.c2w[:, : self.given * chunk]], 1)
        engine.resume(frames[0], {"c2w": path}, seeds=identity)
        chunks = cases.actions(chunk)
        for i, actions in enumerate(chunks[self.given :], self.given):
            if self.swapped:
                engine.history.edit = swap_memory(self.memory) if 2 * i >= len(chunks) else None
            engine.reseed([derive_seed(case, "chunk", i) for case in identity])
            began = time.perf_counter()
            frames.append(engine.step(actions).frames)
            progress.chunk(time.perf_counter() - began)
        return torch.cat(frames, 1)


def _identities(cases: Cases) -> list[int]:
    return [derive_seed(PROTOCOL, seed, kind) for seed, kind in zip(cases.seeds, cases.kinds, strict=True)]


def memory_arms(world: World, policies: tuple[str, ...]) -> dict[str, Make]:
    """Name arms by their policy; ``worldscape_N`` is a pool of at most N entries, ``worldscape`` the world's own.

    Memory is rendered where ``_rendered`` follows, of worlds that can.
    """
    arms: dict[str, Make] = {}
    for name in policies:
        policy, _, rest = name.partition("_")
        memory = replace(with_policy(world.config.memory, policy), render=rest == "rendered")
        if memory.render and not world.renders(replace(memory, render=None)):
            continue
        if rest and not memory.render:
            memory = replace(memory, pool_entries=0 if rest == "unlimited" else int(rest))
        arms[name] = WorldArm(world, memory)
    return arms


def rendering_arms(world: World) -> dict[str, Make]:
    """Return arms that tell what rendered memory is worth: without the learned one, and with wrong depth."""
    both = replace(with_policy(world.config.memory, "worldplay"), render=True)
    noisy = {f"depth_noise_{times}": WorldArm(world, both, depth_noise=times) for times in (1, 2, 4)}
    return {"rendered_alone": WorldArm(world, both, rendered_alone=True), **noisy}


def newest_only(context: Context, *, count: int) -> Context:
    """Hide all of a context but its newest latents."""
    entry = context.entry.clone()
    entry[:, :-count] = -1
    return replace(context, entry=entry)


def disturbed(depth: Tensor, error: Tensor, *, times: float, generator: torch.Generator) -> Tensor:
    """Put smooth noise on depth (N, H, W), so many times its expected relative error (N, H, W) large."""
    height, width = depth.shape[1:]
    noise = torch.randn(len(depth), 1, height // 8, width // 8, generator=generator)
    smooth = functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)[:, 0]
    return depth * (times * error * smooth.to(depth.device)).exp()


def doubted(world: World) -> dict[str, Make]:
    """Return the arms that take something away: another world's memory, another path's actions."""
    own = replace(with_policy(world.config.memory, "worldplay"), render=False)
    return {"swapped": WorldArm(world, own, swapped=True), "shuffled_actions": WorldArm(world, own, other_actions=True)}


def swap_memory(memory: MemoryConfig) -> ContextEdit:
    """Put the next row's pictures into the retrieved slots, with this row's poses: what memory is worth."""

    def edit(context: Context) -> Context:
        latents, retrieved = context.latents.clone(), context.latents.shape[1] - memory.temporal_latents
        latents[:, :retrieved] = latents[:, :retrieved].roll(1, 0)
        return replace(context, latents=latents)

    return edit


def with_other_actions(cases: Cases) -> Cases:
    """Give every case the path and keys of the next one, at its own start: actions that do not fit the truth."""
    relative_path = torch.linalg.solve(cases.start_c2w[:, None], cases.c2w).roll(1, 0)
    return replace(cases, c2w=cases.start_c2w[:, None] @ relative_path, keys=cases.keys.roll(1, 0))


def control_arms(spec: WorldSpec) -> dict[str, Make]:
    """Return arms that need no model: what each metric gives for nothing, and what it can give at most.

    The start view frozen; each chunk the last true frame before it; the simulator blurred; the simulator itself, shown
    the paths a second time.
    """

    def last_frame(cases: Cases, progress: Progress) -> Tensor:
        before = (torch.arange(cases.frames.shape[1]) - 1).clamp(min=0) // spec.chunk_frames * spec.chunk_frames
        return torch.cat([cases.frames[:, :1], cases.frames[:, before[1:]]], 1)

    return {
        "frozen": lambda cases, progress: cases.frames[:, :1].expand_as(cases.frames),
        "last_frame": last_frame,
        "blur": lambda cases, progress: blurred(cases.frames),
        "simulator": lambda cases, progress: _simulate(cases, spec),
    }


def vae_arm(world: World) -> Make:
    """Return the truth through the world's VAE: what no transformer on its latents can beat."""

    def reconstruct(cases: Cases, progress: Progress) -> Tensor:
        return torch.stack([round_trip(world.vae, clip) for clip in cases.frames])

    return reconstruct


def splat_arm(world: World) -> Make:
    """Return what the start view alone shows of all that comes, with the depth that the head sees in it: no model."""

    def show(cases: Cases, progress: Progress) -> Tensor:
        renderer = Renderer(world, world.spec, world.config.memory)
        start, depth = cases.frames[:, :1], renderer.depth(cases.frames[:, :1]).cpu()
        path = frame_path(cases.start_c2w, cases.c2w)
        found = splat(to_pixels(start), depth, cases.start_c2w[:, None], path, world.spec.K)
        return torch.cat([start, to_frames(found.colour)], 1)  # holes are 0, grey

    return show


def _simulate(cases: Cases, spec: WorldSpec) -> Tensor:
    """Let the simulator follow the paths a second time, as any world would."""
    from ...sims.doom.sim import DoomDynamics

    dynamics = DoomDynamics(1, spec=spec)
    shown = []
    for seed, start, path in zip(cases.seeds, cases.start_c2w, cases.c2w, strict=True):
        dynamics.reset(seeds=[derive_seed(PROTOCOL, seed, "again")], starts=[seed])
        first = dynamics.follow(start[None, None]).frames[0, -1:]
        shown.append(torch.cat([first, dynamics.follow(path[None]).frames[0]]))
    dynamics.close()
    return torch.stack(shown)


def blurred(
    frames: Tensor,  # (B, T, H, W, 3) uint8
    factor: int = 4,
) -> Tensor:
    """Average blocks of pixels and enlarge them smoothly."""
    pixels = frames.flatten(0, 1).movedim(-1, 1).float()
    small = functional.avg_pool2d(pixels, factor)
    large = functional.interpolate(small, size=pixels.shape[2:], mode="bicubic", align_corners=False)
    return large.clamp(0, 255).round().to(torch.uint8).movedim(1, -1).view(frames.shape)
