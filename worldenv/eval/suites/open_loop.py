"""Suite ``open_loop``: held-out clips continued from their first frame by what was commanded, beside what happened.

For worlds of any body, with a camera or without: all it needs is a recording. Poses of a camera are those that were
realised, as in training: a wall that stopped it shows in them. The cheapest cheats stand beside it:
showing the first frame for ever, and obeying another clip's commands.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import Stopwatch, track
from ...base.media import save_picture
from ...base.rng import derive_seed
from ...data.dataset import clip_track
from ...data.schema import Clip, read_shard, shard_config, shard_paths
from ...dynamics.signals import Track
from ...dynamics.spec import frames_of
from ...engine.engine import Engine
from ...training.augment import round_trip
from ...world.world import World
from ..image import Array, frame_psnr, motion_ratio
from ..report.document import print_arms, print_written, write_report
from ..report.pictures import draw_curves, sheet, write_video

PROTOCOL = "open-loop-v1"
HORIZONS = (1, 16, 48)
"""Frames after the first one that PSNR is also given at."""
NUM_CLIPS, NUM_SHOWN, COLUMNS = 32, 6, 12
"""Clips that are scored by default, clips in the pictures, and frames of each there."""


def run_open_loop(
    world: World, out: Path, *, recording: Path, num_worlds: int | None = None, first_seed: int | None = None
) -> None:
    """Continue ``num_worlds`` clips of a recording, the first of which is number ``first_seed``.

    Raises:
        ValueError: if the recording has not so many clips, or lacks what the world takes.
    """
    frames, commands, seeds = _read(world, recording, num_worlds or NUM_CLIPS, first_seed or 0)
    watch, policy = Stopwatch(), world.config.memory.policy
    arms: dict[str, Callable[[], Tensor]] = {
        policy: lambda: continued(world, frames, commands, seeds),
        "frozen": lambda: frames[:, :1].expand_as(frames),
        "vae": lambda: torch.stack([round_trip(world.vae, clip) for clip in frames]),
    }
    if len(seeds) > 1:
        others = commands.map(lambda part: part.roll(1, 0))
        arms["shuffled_actions"] = lambda: continued(world, frames, others, seeds)
    shown = {arm: make() for arm, make in track(arms.items(), "arms", total=len(arms))}
    curves = {arm: frame_psnr(made, frames) for arm, made in shown.items()}
    scores = {arm: _scores(shown[arm], frames, curve) for arm, curve in curves.items()}
    against = [(policy, arm) for arm in ("frozen", "shuffled_actions") if arm in arms]
    config = shard_config(shard_paths(recording)[0])
    report = write_report(
        out / "report.json",
        suite="open_loop",
        protocol=PROTOCOL,
        world=world.identity(),
        seeds=seeds,
        arms=scores,
        against=against,
        timing={"seconds": watch.seconds()},
        recording={"env": config.get("env", ""), "clips": len(seeds)},
    )
    chunk = world.spec.chunk_frames
    draw_curves(out / "over_time.png", {arm: {"psnr": curve[:, chunk::chunk]} for arm, curve in curves.items()})
    write_video(out / "open_loop.mp4", {"truth": frames, policy: shown[policy]}, fps=world.spec.fps)
    skip = max(1, frames.shape[1] // COLUMNS)
    save_picture(out / "open_loop.png", sheet(frames[:NUM_SHOWN, ::skip], shown[policy][:NUM_SHOWN, ::skip]))
    print_arms(report)
    print_written(out)


def _read(world: World, recording: Path, count: int, first: int) -> tuple[Tensor, Track, list[int]]:
    """Return frames (N, T, H, W, 3) of whole chunks, what led to their latents, each (N, F, ...), and their numbers."""
    clips = chain.from_iterable(read_shard(path) for path in shard_paths(recording, max_clips=first + count))
    chosen = [_longest(clip) for i, clip in enumerate(clips) if first <= i < first + count]
    if len(chosen) < count:
        raise ValueError(f"{recording} has {first + len(chosen)} clips, {first + count} are needed; record more")
    spec = world.spec
    num_chunks = min(clip.num_latents - 1 for clip in chosen) // spec.chunk_latents
    num_latents = 1 + num_chunks * spec.chunk_latents
    if not num_chunks:
        raise ValueError(f"{recording}: clips are shorter than a chunk of {spec.chunk_latents} latents")
    num_frames = frames_of(num_latents, spec.frames_per_latent)
    if chosen[0].frames.shape[1:3] != (spec.height, spec.width):
        raise ValueError(f"{recording} has frames {chosen[0].frames.shape[1:3]}, the world {spec.height, spec.width}")
    frames = torch.stack([torch.from_numpy(clip.frames[:num_frames]) for clip in chosen])
    tracks = [clip_track(clip, spec) for clip in chosen]
    whole = Track({name: torch.stack([one[name][:num_latents] for one in tracks]) for name in spec.takes})
    return frames, whole, list(range(first, first + count))


def _longest(clip: Clip) -> Clip:
    """Return the longest episode of a clip: nothing leads from one to the next."""
    return max(clip.episodes(), key=lambda episode: episode.num_latents)


def continued(world: World, frames: Tensor, commands: Track, seeds: list[int], *, given: int = 0) -> Tensor:
    """Let the world go on as commanded, (N, T, H, W, 3) uint8, from first frames and ``given`` chunks after them."""
    engine, latents = Engine(world, len(frames)), 1 + given * world.spec.chunk_latents
    known = frames[:, : frames_of(latents, world.spec.frames_per_latent)]
    engine.resume(known, commands.part(slice(latents)), seeds=[derive_seed(PROTOCOL, seed) for seed in seeds])
    steps = commands.part(slice(latents, None)).split(world.spec.chunk_latents)
    return torch.cat([known, *(engine.step(step).frames for step in steps)], 1)


def _scores(made: Tensor, truth: Tensor, curve: Array) -> dict[str, Array]:
    """Return PSNR of what was made, also at some horizons, and how much it moves."""
    at = {f"psnr_{frame}": curve[:, frame] for frame in HORIZONS if frame < curve.shape[1]}
    moved = np.asarray(motion_ratio(made[:, 1:], truth[:, 1:]))
    return {"psnr": curve[:, 1:].mean(1), **at, "motion_ratio": moved}
