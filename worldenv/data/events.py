"""Recorded episodes as event heads see them: frames, what was commanded, what was earned, and whether it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.log import track
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from .dataset import clip_track
from .schema import Clip, read_shard, shard_paths


@dataclass(frozen=True)
class Episode:
    """One recorded episode, from its start view to its end or its clip's."""

    frames: Tensor  # (T, H, W, 3) uint8, T = 1 + L * frames per latent
    track: Track  # each (L, ...): what was commanded on the way to each latent behind the start view
    start: Track  # each (1, ...): what led to the start view
    reward: Tensor  # (L,) float32
    terminated: Tensor  # (L,) bool
    clip: int
    """Number of its clip in the recording."""

    def __len__(self) -> int:
        return len(self.reward)

    def history(
        self,
        first: int,
        num_latents: int,
        still: Track,  # each (1, ...): nothing
    ) -> Track:
        """Return what led to a frame alone and the latents behind it, each (1 + num_latents, ...).

        Nothing led to that frame; but a camera was where it was.
        """
        before = self.start if first == 0 else self.track.at(slice(first - 1, first))
        alone = {name: before[name] if name == "c2w" else still[name] for name in self.track}
        return Track.join([Track(alone).at(None), self.track.at(slice(first, first + num_latents)).at(None)]).at(0)


def read_episodes(
    folder: Path,
    spec: WorldSpec,
    *,
    max_clips: int | None = None,
) -> list[Episode]:
    """Read a recording's episodes up to their ends.

    Raises:
        ValueError: if the recording says nothing of rewards and ends, or lacks what the world takes.
    """
    wanted = ("frames", "reward", "terminated", "truncated", "is_first", *spec.takes)
    paths = shard_paths(folder)
    shards = (read_shard(path, only=wanted) for path in track(paths, "reading episodes", total=len(paths)))
    found = []
    for number, clip in enumerate(islice(chain.from_iterable(shards), max_clips)):
        lacking = [name for name in ("reward", "terminated", "truncated") if name not in clip.signals]
        if lacking:
            raise ValueError(f"{folder} has no {lacking[0]!r}; record it again: heads learn from rewards and ends")
        if clip.frames_per_latent != spec.frames_per_latent:
            raise ValueError(
                f"{folder} has {clip.frames_per_latent} frames a latent, the world {spec.frames_per_latent}; record "
                "again with the world's"
            )
        found += [made for episode in clip.episodes() if (made := _episode(episode, spec, number))]
    if not found:
        raise ValueError(f"{folder}: no episode is longer than its start view")
    return found


def _episode(clip: Clip, spec: WorldSpec, number: int) -> Episode | None:
    """Cut an episode where it ended; None where nothing but its start view is there."""
    ends = np.flatnonzero(clip.signals["terminated"] | clip.signals["truncated"])
    count = int(ends[0]) if len(ends) else clip.num_latents - 1
    if not count:
        return None
    whole = clip_track(clip, spec)
    return Episode(
        frames=torch.from_numpy(clip.frames[: 1 + count * clip.frames_per_latent]),
        track=whole.at(slice(1, count + 1)),
        start=whole.at(slice(1)),
        reward=torch.from_numpy(clip.signals["reward"][1 : count + 1]).float(),
        terminated=torch.from_numpy(clip.signals["terminated"][1 : count + 1]),
        clip=number,
    )


@dataclass(frozen=True)
class EventWindows:
    """Windows of latents in a row, padded behind their ends."""

    frames: Tensor  # (B, 1 + F * frames per latent, H, W, 3) uint8
    track: Track  # each (B, F, ...)
    events: dict[str, Tensor]  # reward (B, F) float32, terminated (B, F) bool
    there: Tensor  # (B, F) bool: what was recorded


def windows_of(episodes: Iterable[Episode], first: Iterable[int], num_latents: int) -> EventWindows:
    """Cut a window out of each episode, from these latents behind the start view on; one that ends repeats its end."""
    frames, tracks, reward, terminated, there = [], [], [], [], []
    for episode, start in zip(episodes, first, strict=True):
        index = start + torch.arange(num_latents)
        inside = index < len(episode)
        index = index.clamp(max=len(episode) - 1)
        every = (len(episode.frames) - 1) // len(episode)
        shown = every * start + torch.arange(1 + every * num_latents)
        frames.append(episode.frames[shown.clamp(max=len(episode.frames) - 1)])
        tracks.append(episode.track.at(index))
        reward.append(episode.reward[index])
        terminated.append(episode.terminated[index])
        there.append(inside)
    track_of = Track({name: torch.stack([one[name] for one in tracks]) for name in tracks[0]})
    events = {"reward": torch.stack(reward), "terminated": torch.stack(terminated)}
    return EventWindows(torch.stack(frames), track_of, events, torch.stack(there))
