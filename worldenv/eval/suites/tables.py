"""Recorded episodes of a hand's table: pictures, commands, and what the simulator made of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from ...data.dataset import clip_track
from ...data.objects import object_truth
from ...data.schema import Clip, read_shard, shard_paths
from ...dynamics.signals import Track
from ...sims.mujoco.scene import SEGMENTS
from ...world.world import World

OBJECT = 1 + SEGMENTS.index("object")
"""What the segmentation calls the object."""


@dataclass(frozen=True)
class Tables:
    """Recorded episodes of one length."""

    frames: Tensor  # (N, T, H, W, 3) uint8
    commands: Track  # each (N, F, ...)
    truth: Tensor  # (N, F, 5): see ``data.objects.object_truth``
    keypoints: Tensor  # (N, F, K, 3) metres
    target: Tensor  # (N, F, 3)
    thing: Tensor  # (N, T, H, W) bool: the object's pixels
    tasks: tuple[str, ...]
    seeds: list[int]

    @classmethod
    def read(cls, world: World, recording: Path, count: int, first: int) -> Tables:
        """Read ``count`` clips from number ``first`` on.

        Raises:
            ValueError: if there are fewer, or they do not say what the hand's table records.
        """
        shards = (read_shard(path) for path in shard_paths(recording))
        clips = list(islice(chain.from_iterable(shards), first, first + count))
        if len(clips) < count:
            raise ValueError(f"{recording} has {first + len(clips)} clips, {first + count} are needed; record more")
        _check(recording, clips, world)
        chunk = world.spec.chunk_latents
        latents = 1 + (min(clip.num_latents for clip in clips) - 1) // chunk * chunk
        frames = 1 + (latents - 1) * world.spec.frames_per_latent

        def stacked(name: str, stop: int = latents) -> Tensor:
            return torch.stack([torch.from_numpy(clip.signals[name][:stop]) for clip in clips])

        tracks = [clip_track(clip, world.spec).at(slice(latents)) for clip in clips]
        return cls(
            frames=torch.stack([torch.from_numpy(clip.frames[:frames]) for clip in clips]),
            commands=Track({name: torch.stack([one[name] for one in tracks]) for name in world.spec.takes}),
            truth=torch.stack([object_truth(clip)[:latents] for clip in clips]),
            keypoints=stacked("keypoints"),
            target=stacked("target"),
            thing=stacked("segmentation", frames) == OBJECT,
            tasks=tuple(str(clip.attributes["task"]) for clip in clips),
            seeds=[int(clip.attributes["seed"]) for clip in clips],
        )


def _check(recording: Path, clips: list[Clip], world: World) -> None:
    needed = ("object", "contact", "keypoints", "target", "segmentation")
    lacking = [name for name in needed if any(name not in clip.signals for clip in clips)]
    if lacking:
        raise ValueError(f"{recording} lacks {', '.join(lacking)}; record --env hand/place, hand/lift or hand/push")
    if clips[0].frames.shape[1:3] != (world.spec.height, world.spec.width):
        raise ValueError(f"{recording}: frames {clips[0].frames.shape[1:3]} are not of the world's size")
