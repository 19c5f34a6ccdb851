"""The bank: every latent an env has seen or made, with the signals that led to it, on the CPU.

Where memory is rendered, also what the last frame of each entry shows: the picture and its depth. Past a budget
latents, frames and depth lie in files that are mapped into memory: what is looked at is read, the rest costs no memory.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..base.device import untouched_zeros
from ..dynamics.signals import Track

REGION = 64
"""Latents in a row that share a box: all that is looked at of what lies far away."""


@dataclass
class MemoryBank:
    """History of B envs, grown by doubling. Row b holds ``length[b]`` latents; what lies beyond is undefined."""

    latents: Tensor  # (B, M, C, h, w) float32
    track: Track  # each (B, M, ...): what led to each latent, and where it lies
    length: Tensor  # (B,) int64
    max_bytes: int = 0
    """Bytes of latents (and of frames, and of depth) in memory; more lie in a file. 0 is no limit."""
    boxes: Tensor | None = None
    """(B, M / REGION, 2, 3) float64: smallest and largest coordinates that REGION latents in a row were taken at; may
    be larger than need be. None where nobody took note."""
    frames: Tensor | None = None
    """(B, M / every + 1, H, W, 3) uint8: the last frame of some latents, where memory is rendered."""
    depth: Tensor | None = None
    """(B, M / every + 1, H, W) float16: its depth in metres along z."""
    every: int = 1
    """Latent ``every`` k has slot k there."""
    given: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long))
    """(B,) int64: latents at the beginning whose frames were given, not made."""
    order: Tensor | None = None
    """(B,) int64: which rows of latents, frames and depth these are, where they are some rows of another bank."""

    @classmethod
    def empty(
        cls,
        latent_shape: tuple[int, int, int],
        still: Track,  # each (B, 1, ...): what rows that hold nothing are filled with
        *,
        capacity: int = 64,
        max_bytes: int = 0,
        frame_size: tuple[int, int] | None = None,
        every: int = 1,
    ) -> MemoryBank:
        """Make a bank without entries; with ``frame_size`` (H, W) it holds what every so manieth latent shows too."""
        num_envs = len(next(iter(still.values())))
        boxes = torch.zeros(num_envs, math.ceil(capacity / REGION), 2, 3, dtype=torch.float64)
        views = None if frame_size is None else (num_envs, capacity // every + 1, *frame_size)
        return cls(
            latents=torch.zeros(num_envs, capacity, *latent_shape),
            track=still.map(lambda part: part.expand(-1, capacity, *part.shape[2:]).clone()),
            length=torch.zeros(num_envs, dtype=torch.long),
            max_bytes=max_bytes,
            boxes=boxes if "c2w" in still else None,
            frames=None if views is None else torch.zeros(*views, 3, dtype=torch.uint8),
            depth=None if views is None else torch.zeros(views, dtype=torch.float16),
            every=every,
            given=torch.zeros(num_envs, dtype=torch.long),
        )

    def append(
        self,
        rows: Tensor,  # (R,) int64 env indices
        latents: Tensor,  # (R, F, C, h, w)
        track: Track,  # each (R, F, ...)
    ) -> None:
        """Append F latents to each of the given rows."""
        if len(rows) == 0:
            return
        count = latents.shape[1]
        while int(self.length[rows].max()) + count > self.latents.shape[1]:
            self._grow()
        slots = self.length[rows, None] + torch.arange(count)
        self.latents[rows[:, None], slots] = latents.detach().to("cpu", torch.float32)
        for name, part in self.track.items():
            part[rows[:, None], slots] = track[name].to("cpu", part.dtype)
        if self.boxes is not None:
            _enclose(self.boxes, rows, slots, self.c2w[rows[:, None], slots][..., :3, 3])
        self.length[rows] += count

    def show(
        self,
        rows: Tensor,  # (R,) int64
        index: Tensor,  # (R, N) int64: latents of these rows, multiples of ``every``
        frames: Tensor,  # (R, N, H, W, 3) uint8
        depth: Tensor,  # (R, N, H, W)
    ) -> None:
        """Note what some latents show."""
        assert self.frames is not None
        assert self.depth is not None
        slots = index // self.every
        self.frames[rows[:, None], slots] = frames.cpu()
        self.depth[rows[:, None], slots] = depth.to("cpu", torch.float16)

    def latents_at(
        self,
        index: Tensor,  # (B, N) int64; what the empty ones, -1, hold is undefined
    ) -> Tensor:
        """Return latents of every row, (B, N, C, h, w): what a policy that compares pictures looks at."""
        row = torch.arange(len(index)) if self.order is None else self.order
        return self.latents[row[:, None], index.clamp(min=0)]

    def shown(
        self,
        index: Tensor,  # (B, N) int64 latents; what the empty ones, -1, hold is undefined
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames (B, N, H, W, 3), depth (B, N, H, W) and poses (B, N, 4, 4) of latents of every row."""
        assert self.frames is not None
        assert self.depth is not None
        row, slot = torch.arange(len(index))[:, None], index.clamp(min=0) // self.every
        there = row if self.order is None else self.order[:, None]
        return self.frames[there, slot], self.depth[there, slot], self.c2w[row, index.clamp(min=0)]

    def near(
        self,
        where: Tensor,  # (B, F, 3) positions
        reach: float,
    ) -> Tensor:
        """Tell which regions may hold a latent within ``reach`` metres of any of the positions, (B, R) bool."""
        used = math.ceil(int(self.length.max()) / REGION)
        if self.boxes is None:
            return torch.ones(len(where), used, dtype=torch.bool)
        low, high = self.boxes[:, :used, None].unbind(3)  # (B, R, 1, 3)
        outside = torch.maximum(low - where[:, None], where[:, None] - high).clamp_(min=0)
        return (outside.square_().sum(-1) < reach**2).any(-1)

    @property
    def c2w(self) -> Tensor:
        """Poses of all latents, (B, M, 4, 4) float64, in worlds with a camera."""
        return self.track["c2w"]

    def newest(self) -> Track:
        """Return what led to every row's newest latent, each (B, ...); to the first slot's in rows without any."""
        return self.track.at((torch.arange(len(self.length)), (self.length - 1).clamp(min=0)))

    def slots_of(self, num_latents: int) -> int:
        """Return how many slots of frames and depth so many latents may fill."""
        return num_latents // self.every + 1

    def views(self) -> dict[str, Tensor]:
        """Return frames and depth, where they are kept."""
        return {name: part for name in ("frames", "depth") if (part := getattr(self, name)) is not None}

    def rows(
        self,
        rows: Tensor,  # (R,) int64
    ) -> MemoryBank:
        """Return some rows to choose from: what they hold stays where it is, and is not to be appended to."""
        if len(rows) == len(self.length) and bool((rows == torch.arange(len(rows))).all()):
            return self
        return replace(
            self,
            track=self.track.at(rows),
            length=self.length[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            given=self.given[rows],
            order=rows if self.order is None else self.order[rows],
        )

    def with_length(
        self,
        length: Tensor,  # (B,)
    ) -> MemoryBank:
        """Return the same history, ending elsewhere."""
        return replace(self, length=length)

    def clear(
        self,
        rows: Tensor,  # (R,) int64
    ) -> None:
        """Forget the history of the given rows."""
        self.length[rows] = 0
        self.given[rows] = 0

    def fork(
        self,
        source: Tensor,  # (R,) int64
        rows: Tensor,  # (R,) int64
    ) -> None:
        """Copy the histories of some rows onto others."""
        longest = int(self.length[source].max())
        for part in (self.latents, *self.track.values()):
            part[rows, :longest] = part[source, :longest]
        for part in self.views().values():
            used = self.slots_of(longest)
            part[rows, :used] = part[source, :used]
        if self.boxes is not None:
            self.boxes[rows] = self.boxes[source]
        self.length[rows], self.given[rows] = self.length[source], self.given[source]

    def _grow(self) -> None:
        capacity = 2 * self.latents.shape[1]
        self.latents = self._wider(self.latents, capacity, 1, spills=True)
        self.track = self.track.map(lambda part: self._wider(part, capacity, 1, spills=False))
        for name, part in self.views().items():
            setattr(self, name, self._wider(part, capacity // self.every + 1, self.every, spills=True))
        if self.boxes is not None:
            more = math.ceil(capacity / REGION) - self.boxes.shape[1]
            self.boxes = torch.cat([self.boxes, self.boxes.new_zeros(len(self.boxes), more, 2, 3)], 1)

    def _wider(self, part: Tensor, capacity: int, every: int, *, spills: bool) -> Tensor:
        """Return the same with room for more, in a file if it is too large and ``spills``."""
        wider = (len(part), capacity, *part.shape[2:])
        size = math.prod(wider) * part.element_size()
        spill = spills and self.max_bytes and size > self.max_bytes
        result = _mapped(wider, part.dtype) if spill else untouched_zeros(wider, dtype=part.dtype)
        for row, length in enumerate(self.length.tolist()):
            used = math.ceil(length / every)
            result[row, :used] = part[row, :used]
        return result


def _enclose(boxes: Tensor, rows: Tensor, slots: Tensor, where: Tensor) -> None:
    """Widen the boxes (B, R, 2, 3) of the slots (N, F) that were filled with positions (N, F, 3)."""
    region = slots.div(REGION, rounding_mode="floor")
    env, column = (slots % REGION == 0).nonzero(as_tuple=True)
    boxes[rows[env], region[env, column]] = boxes.new_tensor([math.inf, -math.inf])[:, None]
    index = (rows[:, None] * boxes.shape[1] + region).flatten()[:, None].expand(-1, 3)
    for side, reduce in ((0, "amin"), (1, "amax")):
        boxes.flatten(0, 1)[:, side].scatter_reduce_(0, index, where.flatten(0, 1), reduce)


def _mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Make a tensor in a file that goes with it.

    Raises:
        OSError: if the disk of temporary files has no room.
    """
    size = math.prod(shape)
    num_bytes = size * dtype.itemsize
    with tempfile.TemporaryFile() as file:  # it has no name, so that nobody has to remove it
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError as error:
            raise OSError(
                f"{error.strerror}: the memory needs {num_bytes / 2**20:.0f} MiB under {tempfile.gettempdir()}; point "
                "TMPDIR to a larger disk, or set bank_bytes higher"
            ) from error
        return torch.from_file(f"/proc/self/fd/{file.fileno()}", shared=True, size=size, dtype=dtype).view(shape)
