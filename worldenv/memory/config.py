"""What is remembered and how, and how latents fall into entries.

History comes in entries: entry 0 is the start view (latent 0 alone), entry e >= 1 the e-th generated chunk. Where the
first chunk begins with the start view (``start_alone=False``, WorldPlay's release), entry e is chunk e.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..base.config import MOST_SIZE, check_numbers
from ..dynamics.spec import WorldSpec
from ..geometry.occupancy import WallsConfig

POLICIES = ("worldplay", "worldscape", "recent", "random", "none", "oracle")
"""``worldplay`` looks past chunks up by what they show and encodes them anew for every chunk; ``worldscape`` keeps
their keys and values, in a pool of selected viewpoints. For comparison, in the sizes of ``worldplay``: ``recent``,
``random``, ``none`` (the chunk before alone) and ``oracle`` (looked up by true visibility; evaluation only)."""


STEPS_PER_SCALE = 8
"""Steps of a world at which viewpoints begin to differ: two chunks."""


NEVER = 2.0
"""A noise level that no step of a sampler has."""


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """How remembered views are rendered into the coming chunk's, where a world has a depth head."""

    sources: int = 2
    """Views that are rendered: those which together show most of what comes, of the latents in context (and the start
    view, where the policy looks further back than that)."""
    slack: float = 0.3
    """Share of its depth by which an older view may lie behind a newer one and still be shown."""
    sharpen: float = 1.0
    """How much of the difference from a 3x3 mean is given back to frames that were made, where they are read between
    pixels, which blurs them; what is given is shown as it is."""
    until: float = 0.5
    """Noise level down to which the sampler's estimate is replaced by the render; above 1 it never is."""
    known: tuple[float, float] = (0.3, 0.8)
    """Shares of a latent cell's pixels that are known from which it is replaced in part, and as a whole."""

    def __post_init__(self) -> None:
        if self.sources < 1:
            raise ValueError(f"sources={self.sources} must be 1 or more; set render=false to render nothing")
        check_numbers(self, natural=("until", "slack", "sharpen"))
        if not 0 <= self.known[0] < self.known[1]:
            raise ValueError(f"known={self.known} must be two shares, the smaller first")


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What is remembered and how it is looked up."""

    policy: str = "worldplay"
    """One of POLICIES."""
    temporal_latents: int = 12
    """Most recent latents, always in context."""
    retrieved_chunks: int = 1
    """Older chunks looked up (by field-of-view overlap, or by likeness of viewpoint)."""
    kept: bool = False
    """``recent``: whether keys and values of its chunks are kept, each recorded once against the chunks before it, not
    encoded anew for every chunk. Faster the longer the context; a world has to be trained with it."""
    reframe: bool = True
    """Whether a context's temporal positions are its slots (WorldPlay, figure 4c) or the latents' own indices, which
    grow with time (figure 4b; for comparison)."""
    fov_deg: tuple[float, float] = (60.0, 35.0)
    """Field of view used for the overlap, horizontal and vertical."""
    radius: float = 8.0
    """Metres within which overlap counts."""
    distance_weight: float = 0.0
    """Overlap that an entry loses per ``radius`` of distance (WorldPlay 3.3 names one; its release has none)."""
    num_points: int = 8192
    """Points of the overlap estimate."""
    seed: int = 0
    """Seed of the points, and of the ``random`` policy."""
    bank_bytes: int = 0
    """Bytes of past latents in memory, over all envs; more lie in a temporary file. 0 is no limit."""
    pool_entries: int = 32
    """``worldscape``: entries beside sink and window that an env keeps; 0 is no limit."""
    pool_bytes: int = 0
    """``worldscape``: the same in bytes, over all envs; the smaller counts, 0 is no limit."""
    scale: float = 0.0
    """``worldscape``: metres at which viewpoints begin to differ; 0 is eight steps of the world."""
    scale_deg: float = 37.5
    """``worldscape``: degrees at which they do."""
    gain: float = 0.75
    """``worldscape``: share of the largest information gain that an entry needs to enter the pool."""
    combine: Literal["geo", "add"] = "geo"
    """``worldscape``: whether likeness of direction and position multiply or add when the pool is read."""
    direction_weight: float = 0.5
    """``worldscape``: weight of the direction in it."""
    suppress: float = 0.9
    """``worldscape``: entries more alike than this are not retrieved together."""
    render: bool | None = None
    """Whether what is remembered is also rendered into the coming view; None where the world has a depth head."""
    rendering: RenderConfig = field(default_factory=RenderConfig)
    """How."""
    walls: bool | None = None
    """Whether what was seen to be solid stops the camera of an environment; None where memory is rendered, which has
    its depth, and the camera walks."""
    floor: WallsConfig = field(default_factory=WallsConfig)
    """What is kept of the floor, and what body walks on it."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"unknown memory policy {self.policy!r}; choose one of {', '.join(POLICIES)}")
        if self.keeps and not self.reframe:
            raise ValueError(
                f"reframe=false: {self.policy} memory places what it recorded anew; choose another policy"
                + (", or kept=false" if self.kept else "")
            )
        if self.combine not in ("geo", "add"):
            raise ValueError(f"combine={self.combine!r}; choose 'geo' or 'add'")
        check_numbers(
            self,
            sizes=("temporal_latents", "num_points"),
            positive=("radius", "scale_deg"),
            natural=("retrieved_chunks", "bank_bytes", "pool_entries", "pool_bytes", "scale", "distance_weight"),
        )
        if self.retrieved_chunks > MOST_SIZE:
            raise ValueError(f"retrieved_chunks={self.retrieved_chunks} must be at most {MOST_SIZE}")
        if not all(0 < angle < 180 for angle in self.fov_deg):
            raise ValueError(f"fov_deg={self.fov_deg} must be two angles between 0 and 180 degrees")

    @property
    def keeps(self) -> bool:
        """Whether the policy keeps keys and values."""
        return self.policy == "worldscape" or (self.policy == "recent" and self.kept)

    def for_world(self, spec: WorldSpec) -> MemoryConfig:
        """Fill in what follows from the world's step."""
        return self if self.scale else replace(self, scale=STEPS_PER_SCALE * spec.steps.move)


@dataclass(frozen=True)
class Layout:
    """How latents fall into entries."""

    chunk_latents: int
    """Latents per chunk."""
    start_alone: bool = True
    """Whether latent 0 is an entry of its own."""

    @property
    def shift(self) -> int:
        """Latents that entry 0 lacks."""
        return self.chunk_latents - 1 if self.start_alone else 0

    def entry_of(
        self,
        index: Tensor,  # (...) latent index, -1 for none
    ) -> Tensor:
        """Return the entry that a latent belongs to; -1 stays -1."""
        return torch.where(index < 0, -1, (index + self.shift) // self.chunk_latents)

    def parts(self, num_latents: int) -> Iterator[slice]:
        """Cut a clip into its entries: the start view if it stands alone, then whole chunks; a rest is left out."""
        start, stop = 0, 1 if self.start_alone else self.chunk_latents
        while stop <= num_latents:
            yield slice(start, stop)
            start, stop = stop, stop + self.chunk_latents

    def members(
        self,
        entries: Tensor,  # (...), -1 for none
    ) -> Tensor:
        """Return the latents of entries, (..., chunk_latents); -1 where there are none."""
        index = entries[..., None] * self.chunk_latents - self.shift + torch.arange(self.chunk_latents)
        return torch.where((entries[..., None] >= 0) & (index >= 0), index, -1)


def num_slots(config: MemoryConfig, chunk_latents: int) -> int:
    """Return S, the slots of a context that is encoded anew."""
    return config.temporal_latents + config.retrieved_chunks * chunk_latents


def kept_entries(config: MemoryConfig, chunk_latents: int) -> int:
    """Return how many chunks ``recent`` keeps: as many as a context has slots for."""
    return max(1, num_slots(config, chunk_latents) // chunk_latents)


def reach_of(config: MemoryConfig, chunk_latents: int) -> int | None:
    """Return how many entries before its own a latent sees, where ``recent`` keeps them; None is all in context."""
    return kept_entries(config, chunk_latents) if config.policy == "recent" and config.kept else None


def with_policy(config: MemoryConfig, policy: str) -> MemoryConfig:
    """Return the same budgets under another policy."""
    return replace(config, policy=policy)
