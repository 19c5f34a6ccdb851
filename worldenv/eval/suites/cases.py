"""The cases of a suite: paths through held-out mazes, what the simulator shows along them, and what returns where.

A path comes back to places exactly (out and back, circles, turns on the spot), so that what a world shows there twice
can be compared frame by frame: with its own first pass (WorldPlay, section 4) and with the simulator. Published cases
are drawn from a list in the package (``published/``), revisit-v1 for classic mazes and revisit-v2 for those with goal
objects: two people score the same ones.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...base.log import track
from ...base.rng import derive_seed
from ...data.visibility import visibility
from ...dynamics.protocol import Chunk
from ...dynamics.signals import Track
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...geometry.action import camera_to_c2w
from ...geometry.path import YAW, FreeSpace, Walker, plan_path
from ...geometry.pose import look, yaw_pitch
from ...memory.config import Layout
from .another_way import WAYS, plan_another_way, returns_along

PROTOCOL = "revisit-v1"
"""Cases in classic mazes; the noise that worlds draw for a case follows from this name in all mazes."""
OBJECTS_PROTOCOL = "revisit-v2"
"""Cases in mazes with goal objects."""
KINDS = ("out_and_back", "circle", "turn", "explore", "another_way")
"""Paths: away and home over the same poses; laps of a circle; turns on the spot; new ground; home from another side."""
CLEARANCE = 0.65
"""Metres that a path keeps from walls."""
STRIDE = 2
"""Every second pixel of a view, each way, is looked up in earlier views."""
MOST = 0.5
"""Share of a view that the start view must not have shown for the whole frame to count as unseen ground."""


@dataclass(frozen=True)
class Cases:
    """Paths, true frames and actions of held-out mazes. T = 4 F + 1 frames, the start view first."""

    seeds: list[int]
    kinds: list[str]
    start_c2w: Tensor  # (B, 4, 4)
    c2w: Tensor  # (B, F, 4, 4)
    keys: Tensor  # (B, F, 2)
    frames: Tensor  # (B, T, H, W, 3) uint8
    first: Tensor  # (B, T) int64: the earliest frame with the same pose, for frames that return; else -1
    seen: Tensor | None = None  # (B, F, P) bool: points of each latent's last frame that the start view showed
    overlap: Tensor | None = None  # (B, chunks, 1 + chunks) how much of each chunk each entry shows, truly

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def unseen(self) -> npt.NDArray[np.bool_]:
        """Which latents end on ground that is mostly invented, (B, F); without depth nobody knows, and none does."""
        if self.seen is None:
            return np.zeros(self.c2w.shape[:2], bool)
        result: npt.NDArray[np.bool_] = (~self.seen.numpy()).mean(2) > MOST
        return result

    def actions(self, chunk_latents: int) -> list[Track]:
        """Return the commands of every chunk, in order."""
        return Track(keys=self.keys, c2w=self.c2w).split(chunk_latents)

    def rows(self, index: slice) -> Cases:
        """Return some of the cases."""
        parts = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        chosen: dict[str, Any] = {name: part if part is None else part[index] for name, part in parts}
        return Cases(**chosen)

    def cut(self, num_frames: int | None) -> Cases:
        """Return the same cases, ending after so many frames (4 N + 1)."""
        if num_frames is None:
            return self
        latents = (num_frames - 1) // FRAMES_PER_LATENT
        return replace(
            self,
            c2w=self.c2w[:, :latents],
            keys=self.keys[:, :latents],
            frames=self.frames[:, :num_frames],
            first=self.first[:, :num_frames],
            seen=None if self.seen is None else self.seen[:, :latents],
        )


def protocol_of(spec: WorldSpec) -> str:
    """Return the name of the cases that a world is scored on, by the mazes that it was recorded in."""
    return PROTOCOL if spec.maze == "classic" else OBJECTS_PROTOCOL


def published(suite: str, spec: WorldSpec) -> dict[str, Any]:
    """Return a suite's published list for the world's mazes: ``chunks``, ``seeds``, ``kinds``, ``digests``.

    Raises:
        ValueError: if there is none.
    """
    text = resources.files(__package__).joinpath("published", f"{protocol_of(spec)}.toml").read_text()
    found: dict[str, Any] = tomllib.loads(text)[suite]
    if spec.maze == "classic":
        return found
    if spec.maze not in found["digests"]:
        known = ", ".join(("classic", *found["digests"]))
        raise ValueError(f"no cases are published in mazes of {spec.maze!r}; choose one of {known}")
    return found | {"digests": found["digests"][spec.maze]}


def make_cases(spec: WorldSpec, seeds: list[int], kinds: list[str], num_chunks: int, *, depth: bool = False) -> Cases:
    """Plan a path of ``num_chunks`` chunks on each maze and let the simulator show it.

    With ``depth`` also which points the start view showed, and what retrieval by true visibility would find.
    """
    from ...sims.doom.sim import DoomDynamics

    dynamics = DoomDynamics(1, spec=spec, depth=depth)
    made = [
        _make_case(dynamics, seed, kind, num_chunks * spec.chunk_latents)
        for seed, kind in track(list(zip(seeds, kinds, strict=True)), "simulator", total=len(seeds))
    ]
    dynamics.close()
    start, path, frames, first = (torch.stack([case[i] for case in made]) for i in range(4))
    seen, overlap = (torch.stack([case[i] for case in made]) if depth else None for i in (4, 5))
    keys = spec.keys_along(torch.cat([start[:, None], path], 1))
    return Cases(seeds, list(kinds), start, path, keys, frames, first, seen, overlap)


def open_case(dynamics: Any, seed: int, kind: str, num_latents: int) -> tuple[Chunk, Tensor, Tensor]:
    """Go to the start of a case; return what is seen there, the start pose (4, 4) and the path (F, 4, 4)."""
    opened = dynamics.reset(seeds=[derive_seed(protocol_of(dynamics.spec), seed)], starts=[seed])
    start, camera = _plan(dynamics.mazes[0].free, opened.signals["c2w"][0, -1], kind, num_latents, seed, dynamics.spec)
    c2w = camera_to_c2w(torch.from_numpy(camera), start, dynamics.spec.steps)
    return dynamics.follow(start[None, None]), start, c2w


def _make_case(dynamics: Any, seed: int, kind: str, num_latents: int) -> tuple[Tensor, ...]:
    spec = dynamics.spec
    before, start, c2w = open_case(dynamics, seed, kind, num_latents)
    shown = dynamics.follow(c2w[None])
    frames = torch.cat([before.frames[0, -1:], shown.frames[0]])
    if kind == "another_way":
        first = returns_along(start, c2w)
    else:
        first = returns(kind, 1 + FRAMES_PER_LATENT * num_latents, lap=FRAMES_PER_LATENT * _lap(spec))
    if "depth" not in shown.signals:
        return start, c2w, frames, first
    ends = shown.signals["depth"][0, FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT]
    depth = torch.cat([before.signals["depth"][0, -1:], ends]).float()
    path = torch.cat([start[None], c2w])
    visible = visibility(depth, path, spec.K, stride=STRIDE)  # (1 + F, 1 + F, P), of view i in view j
    return start, c2w, frames, first, visible[1:, 0], true_overlap(visible, Layout(spec.chunk_latents))


def _lap(spec: WorldSpec) -> int:
    """Return the latents of a whole turn."""
    return round(360 / spec.steps.turn_deg)


def _plan(free: Any, here: Tensor, kind: str, num_latents: int, seed: int, spec: WorldSpec) -> tuple[Tensor, Any]:
    """Return a start pose (4, 4) and ``camera`` actions (F, 5)."""
    space, rng = FreeSpace(free, 1.0), np.random.default_rng([seed, 1])
    if kind == "circle":
        return _circle(space, float(here[1, 3]), num_latents, rng, spec)
    if kind == "another_way":
        way = WAYS[seed % len(WAYS)]
        return plan_another_way(space, float(here[1, 3]), num_latents, rng, spec, way=way, clearance=CLEARANCE)
    if kind == "turn":
        camera = np.zeros((num_latents, 5))
        camera[:, YAW] = rng.choice([-1, 1])
        return here, camera
    x, _, z = here[:3, 3].tolist()
    walker = Walker(space, x=x, z=z, yaw=float(yaw_pitch(here)[0]), steps=spec.steps, clearance=CLEARANCE)
    return here, plan_path("explore" if kind == "explore" else "out_and_back", walker, num_latents, rng, pitch=False)


def _circle(
    space: FreeSpace, height: float, num_latents: int, rng: np.random.Generator, spec: WorldSpec
) -> tuple[Tensor, Any]:
    """Find room for the widest circle that the free space of a map allows, at most one step a latent."""
    for speed in (1.0, 0.75, 0.5, 0.25):
        for _ in range(200):
            x, z = space.sample(rng, clearance=CLEARANCE)
            yaw, side = float(rng.uniform(-np.pi, np.pi)), int(rng.choice([-1, 1]))
            walker = Walker(space, x=x, z=z, yaw=yaw, steps=spec.steps, clearance=CLEARANCE)
            if all(walker.try_step(forward=speed, yaw=side) for _ in range(_lap(spec))):
                start = look(torch.tensor([x, height, z], dtype=torch.float64), torch.tensor(yaw).double())
                return start, np.tile([speed, 0.0, 0.0, float(side), 0.0], (num_latents, 1))
    raise ValueError("this map has no room for a circle; choose another seed")


def returns(kind: str, num_frames: int, *, lap: int) -> Tensor:
    """Return the earliest frame with the same pose for every frame that comes back to one, else -1; (T,) int64."""
    index = torch.arange(num_frames)
    if kind == "out_and_back":
        earliest = num_frames - 1 - index
    elif kind == "explore":
        earliest = index
    else:
        earliest = torch.where(index > 0, (index - 1) % lap + 1, 0)
        earliest[index == lap] = 0  # a whole turn ends where it began
    return torch.where(earliest < index, earliest, -1)


def true_overlap(
    seen: Tensor,  # (F, F, P) bool from ``visibility``, of latent 0 and whole chunks
    layout: Layout,
) -> Tensor:
    """Return the share of each chunk's surface that each earlier entry shows, (chunks, 1 + chunks)."""
    chunk, count = layout.chunk_latents, (len(seen) - 1) // layout.chunk_latents
    share = torch.zeros(count, 1 + count)
    for c in range(count):
        wanted = seen[1 + chunk * c : 1 + chunk * (c + 1)]
        for entry in range(c + 1):
            members = layout.members(torch.tensor(entry))
            share[c, entry] = wanted[:, members[members >= 0]].any(1).float().mean()
    return share


def digests(cases: Cases) -> list[str]:
    """Return eight hex digits per case that two people can compare: start view and path, to a tenth of a millimetre."""
    return [_digest(frame, path) for frame, path in zip(cases.frames[:, 0], cases.c2w, strict=True)]


def _digest(
    frame: Tensor,  # (H, W, 3) uint8
    path: Tensor,  # (F, 4, 4)
) -> str:
    return hashlib.sha256(frame.numpy().tobytes() + (path * 1e4).round().long().numpy().tobytes()).hexdigest()[:8]


def start_digests(spec: WorldSpec, seeds: list[int], kinds: list[str], num_chunks: int) -> list[str]:
    """Return the ``digests`` of cases without walking their paths."""
    from ...sims.doom.sim import DoomDynamics

    dynamics, found = DoomDynamics(1, spec=spec, depth=False), []
    for seed, kind in track(list(zip(seeds, kinds, strict=True)), "simulator", total=len(seeds)):
        before, _, path = open_case(dynamics, seed, kind, num_chunks * spec.chunk_latents)
        found.append(_digest(before.frames[0, -1], path))
    dynamics.close()
    return found
