"""Windows for training: pixels from shards, and latents with poses from an encoded recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from pathlib import Path

import torch
from torch import Tensor

from ..base.log import track
from ..bodies.registry import bodies_of
from ..bodies.vector import ACTION, normalise
from ..dynamics.signals import Track, check_signals
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from .schema import Clip, read_shard, shard_paths


class PixelDataset:
    """All frames of a recording, in memory, as random windows of consecutive frames."""

    def __init__(self, folder: Path, *, max_clips: int | None = None) -> None:
        self.clips: list[Tensor] = []  # each (T, H, W, 3) uint8
        self.borders: list[list[int]] = []  # of each clip: frames that episodes begin with, and the end of the last
        paths = shard_paths(folder)
        for path in track(paths, "reading frames", total=len(paths)):
            if max_clips is not None and len(self.clips) >= max_clips:
                break
            for clip in read_shard(path, only=("frames", "is_first")):
                self.clips.append(torch.from_numpy(clip.frames))
                every = clip.frames_per_latent
                self.borders.append([max(0, every * (i - 1) + 1) for i in clip.starts] + [len(clip.frames)])
        self.clips, self.borders = self.clips[:max_clips], self.borders[:max_clips]

    def check_size(self, *, width: int, height: int, num_frames: int) -> None:
        """Refuse pictures of another size and clips shorter than ``num_frames``."""
        for clip in self.clips:
            if tuple(clip.shape[1:3]) != (height, width):
                raise ValueError(
                    f"the recording has {clip.shape[2]}x{clip.shape[1]} frames, the world {width}x{height}; "
                    "record again or set [spec] width and height"
                )
            if len(clip) < num_frames:
                raise ValueError(f"a clip of {len(clip)} frames is shorter than the window of {num_frames}")

    def sample(self, batch: int, num_frames: int, generator: torch.Generator) -> Tensor:
        """Draw windows, (batch, num_frames, H, W, 3) uint8: within one episode, where a clip has one that long."""
        rows = []
        for i in torch.randint(len(self.clips), (batch,), generator=generator).tolist():
            starts = self._starts(i, num_frames)
            start = starts[int(torch.randint(len(starts), (1,), generator=generator))]
            rows.append(self.clips[i][start : start + num_frames])
        return torch.stack(rows)

    def _starts(self, clip: int, num_frames: int) -> Sequence[int]:
        """Return the frames that windows of a clip may begin at."""
        borders, whole = self.borders[clip], range(len(self.clips[clip]) - num_frames + 1)
        if len(borders) == 2:
            return whole
        within = [i for a, b in pairwise(borders) for i in range(a, b - num_frames + 1)]
        return within or whole


TRACK = "track."
"""What names of a track's signals begin with in encoded shards."""


@dataclass(frozen=True)
class LatentDataset:
    """An encoded recording: latents and what conditions them, in memory."""

    latents: Tensor  # (N, F, C, h, w) float16
    track: Track  # each (N, F, ...): what led to each of them, and where it lies
    need: Tensor  # (N, F) float32: share of each latent's surface that only memory can know
    renders: Tensor | None = None  # (N, R, F, C + 1, h, w) float16: what rendered memory knows, and shares known
    frames: Tensor | None = None  # (N, E, H, W, 3) uint8: how the VAE shows the last latent of each entry, and
    depth: Tensor | None = None  # (N, E, H, W) float16: what the depth head sees in it, where memory is rendered
    weight: Tensor | None = None  # (N, F, 1, h, w) float16: how much an error of each cell counts; None is 1
    length: Tensor | None = None  # (N,) int64: latents of each episode, whose last one is repeated; None is all

    @classmethod
    def join(cls, shards: Sequence[Mapping[str, Tensor]]) -> LatentDataset:
        """Join encoded shards (see ``training.encode``)."""
        names = [name for name in shards[0] if name != "length" or all("length" in shard for shard in shards)]
        whole = {name: torch.cat([shard[name] for shard in shards]) for name in names}
        track = Track({name.removeprefix(TRACK): whole.pop(name) for name in list(whole) if name.startswith(TRACK)})
        return cls(track=track, **whole)

    def head(self, count: int | None) -> LatentDataset:
        """Return the first clips, all by default; where clips hold several episodes, a row each, nothing is cut."""
        if bool((self.lengths < self.latents.shape[1]).any()):
            return self
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "track"}
        some = {name: part[:count] for name, part in parts.items() if part is not None}
        return LatentDataset(track=self.track.at(slice(count)), **some)

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def lengths(self) -> Tensor:
        """Latents that happened in each row, (N,) int64."""
        return torch.full((len(self),), self.latents.shape[1]) if self.length is None else self.length

    def chunks(self, *, chunk_latents: int, need: float) -> tuple[Tensor, Tensor]:
        """List the chunks of all clips as (clip, entry) pairs, entry 1 being the first after latent 0.

        Returns:
            Two (P, 2) int64 tensors: chunks whose mean need of memory is at least ``need``, and all chunks.
        """
        num_clips, num_latents = self.need.shape
        num_entries = (num_latents - 1) // chunk_latents
        mean = self.need[:, 1 : 1 + num_entries * chunk_latents].unflatten(1, (num_entries, chunk_latents)).mean(2)
        every = torch.cartesian_prod(torch.arange(num_clips), torch.arange(1, num_entries + 1))
        happened = every[:, 1] * chunk_latents < self.lengths[every[:, 0]]
        return every[(mean.flatten() >= need) & happened], every[happened]


@dataclass(frozen=True)
class MotionDataset:
    """The frames that have a pose, the last of each latent, in memory."""

    frames: Tensor  # (N, F, H, W, 3) uint8
    c2w: Tensor  # (N, F, 4, 4) float64
    inverse_depth: Tensor  # (N, F, H / cell, W / cell) float32: 1 / metres at cells' centres

    @classmethod
    def load(
        cls, folder: Path, *, cell: int, max_clips: int | None = None, through: Callable[[Tensor], Tensor] | None = None
    ) -> MotionDataset:
        """Read a recording, with every clip (T, H, W, 3) uint8 put ``through`` something first.

        Raises:
            ValueError: if the recording has no camera poses or no depth.
        """
        clips = _read_clips(folder, ("frames", "depth", "c2w"), max_clips, "reading motion")
        rows = [_motion_row(clip, cell, through) for clip in clips]
        return cls(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def __len__(self) -> int:
        return len(self.frames)

    def sample(self, batch: int, num_latents: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows of consecutive entries: frames, c2w and inverse depth, each (batch, num_latents, ...)."""
        clip = torch.randint(len(self), (batch,), generator=generator)
        start = torch.randint(self.frames.shape[1] - num_latents + 1, (batch,), generator=generator)
        return self.windows(torch.stack([clip, start], 1), num_latents)

    def windows(
        self,
        places: Tensor,  # (B, 2): clip and first entry
        num_latents: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return windows of consecutive entries: frames, c2w and inverse depth, each (B, num_latents, ...)."""
        clip, entry = places[:, :1], places[:, 1:] + torch.arange(num_latents)
        return self.frames[clip, entry], self.c2w[clip, entry], self.inverse_depth[clip, entry]


@dataclass(frozen=True)
class DepthDataset:
    """The last frame of each latent with its depth, in memory."""

    frames: Tensor  # (N, F, H, W, 3) uint8
    depth: Tensor  # (N, F, H, W) float16, metres along z

    @classmethod
    def load(
        cls, folder: Path, *, max_clips: int | None = None, through: Callable[[Tensor], Tensor] | None = None
    ) -> DepthDataset:
        """Read a recording, with every clip (T, H, W, 3) uint8 put ``through`` something first.

        Raises:
            ValueError: if the recording has no depth.
        """
        clips = _read_clips(folder, ("frames", "depth"), max_clips, "reading depth")
        rows = [_depth_row(clip, through) for clip in clips]
        return cls(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def __len__(self) -> int:
        return len(self.frames)


def _depth_row(clip: Clip, through: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
    """Return one clip's frames (F, H, W, 3) and depth (F, H, W)."""
    depth = clip.signals.get("depth")
    if depth is None:
        raise ValueError("this recording has no depth; record one that has, with --depth")
    frames = torch.from_numpy(clip.frames)
    shown = frames if through is None else through(frames)
    return shown[::FRAMES_PER_LATENT], torch.from_numpy(depth[::FRAMES_PER_LATENT])


def _read_clips(folder: Path, arrays: tuple[str, ...], max_clips: int | None, description: str) -> Iterator[Clip]:
    """Yield the first clips of a recording, some arrays of each."""
    paths = shard_paths(folder)
    clips = (clip for path in track(paths, description, total=len(paths)) for clip in read_shard(path, only=arrays))
    return islice(clips, max_clips)


def _motion_row(clip: Clip, cell: int, through: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return one clip's frames (F, H, W, 3), c2w (F, 4, 4) and inverse depth (F, H / cell, W / cell)."""
    if not {"c2w", "depth"} <= clip.signals.keys():
        raise ValueError("this recording has no camera poses or no depth; motion is learned from both")
    frames = torch.from_numpy(clip.frames)
    shown = frames if through is None else through(frames)
    depth = torch.from_numpy(clip.signals["depth"][::FRAMES_PER_LATENT]).float()
    return shown[::FRAMES_PER_LATENT], torch.from_numpy(clip.signals["c2w"]), _at_centres(1 / depth, cell)


def _at_centres(
    values: Tensor,  # (F, H, W)
    cell: int,
) -> Tensor:
    """Average the four pixels around the centre of each cell; (F, H / cell, W / cell)."""
    cells = values.unflatten(2, (-1, cell)).unflatten(1, (-1, cell))
    middle = slice(cell // 2 - 1, cell // 2 + 1)
    return cells[:, :, middle, :, middle].mean((2, 4))


def clip_track(clip: Clip, spec: WorldSpec) -> Track:
    """Return what a world of this spec takes of a clip, each (F, ...); of bodies that were not there, what rests.

    Raises:
        ValueError: if the recording lacks some of it, or has it in another shape.
    """
    lacking = [name for name in spec.takes if name not in clip.signals]
    if lacking and not any(body.takes.keys() <= clip.signals.keys() for body in bodies_of(spec)):
        raise ValueError(
            f"this recording has no {' or '.join(lacking)}; the transformer's stages need what the world takes: "
            f"{', '.join(spec.takes)}"
        )
    found = {name: torch.from_numpy(clip.signals[name]) for name in spec.takes if name not in lacking}
    if lacking:
        found = {**spec.complete({name: part[None] for name, part in found.items()}).at(0)}
    if spec.environment is not None and ACTION in found:
        found[ACTION] = torch.from_numpy(normalise(spec.environment.actions, clip.signals[ACTION]))
        found[ACTION][clip.starts] = 0  # nothing led to a start view
    check_signals(found, spec.takes, what="the recording's signals", lead=(clip.num_latents,))
    return Track({name: part.to(getattr(torch, spec.takes[name].dtype)) for name, part in found.items()})
