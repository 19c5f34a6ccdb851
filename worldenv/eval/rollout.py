"""``worldenv rollout``: a video along a pose string."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import torch

from ..base.dynamics import Actions
from ..base.log import Stopwatch, console, track
from ..engine.engine import Engine, default_dtype, resolve_device
from ..engine.world import shared_world
from ..envs.make import memory_config
from ..geometry.action import camera_to_c2w, keys_to_camera
from ..geometry.pose_string import parse_pose_string


def run_rollout(name: str, pose: str, out: Path, *, start: int, seed: int, memory: str) -> None:
    """Generate along the keys of ``pose`` from a start view and write every frame.

    Raises:
        ValueError: on a bad pose string, world, start or policy; nothing is written then.
    """
    keys = parse_pose_string(pose)
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    chunk = world.spec.chunk_latents
    if len(keys) % chunk:
        pad = chunk - len(keys) % chunk
        console.print(f"{len(keys)} latents are not whole chunks of {chunk}; standing still for {pad} more")
        keys = torch.cat([keys, keys.new_zeros(pad, 2)])
    engine = Engine(world, 1, memory=memory_config(memory, world.config.memory))
    frames = [engine.reset(seeds=[seed], starts=[start]).frames[0]]
    c2w = camera_to_c2w(keys_to_camera(keys), engine.c2w[0], world.spec.steps)
    watch, pieces = Stopwatch(), list(zip(keys.split(chunk), c2w.split(chunk), strict=True))
    for k, p in track(pieces, "chunks", total=len(pieces)):
        frames.append(engine.step(Actions(k[None], p[None])).frames[0])
    video = torch.cat(frames).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(out, video.repeat(4, 1).repeat(4, 2), fps=world.spec.fps, macro_block_size=1, quality=8)
    console.print(f"{len(video)} frames, {(len(video) - 1) / watch.seconds():.0f} frames/s; wrote {out}")
