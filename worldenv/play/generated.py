"""Episodes that a world generates under random actions, and recordings, as a data set for policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..base.config import from_dict
from ..base.device import default_dtype, resolve_device
from ..base.log import console, track
from ..bodies.registry import make_body
from ..bodies.vector import ACTION, embed
from ..data.lerobot_writer import ROBOT, write_lerobot
from ..data.schema import Array, Clip, read_shard, shard_config, shard_paths
from ..dynamics.protocol import Chunk
from ..dynamics.spec import WorldSpec
from ..engine.engine import Engine
from ..world.world import World, shared_world

BATCH = 8
"""Episodes that are generated together."""
TOLD = ("reward", "terminated")
"""Signals that are written beside what was done, where a world gives them."""


def export_lerobot(
    folder: Path, *, world: str, recording: Path | None, episodes: int, chunks: int, seed: int, task: str
) -> None:
    """Write a recording, or what a world generates from its start views, as a LeRobot data set.

    Raises:
        ValueError: if the folder is not empty, or neither recording nor world says what was done.
    """
    if recording is not None:
        paths = shard_paths(recording)
        spec = from_dict(WorldSpec, shard_config(paths[0]).get("spec", {}), where=f"{recording}: spec")
        shards = track(paths, "writing", total=len(paths))
        clips: Iterator[Clip] = (clip for path in shards for clip in read_shard(path))
    else:
        device = resolve_device("auto")
        shown = shared_world(world, device=device, dtype=default_dtype(device))
        spec, clips = shown.spec, generated(shown, episodes=episodes, chunks=chunks, seed=seed)
    parts = () if spec.environment is None else spec.environment.actions
    count, frames = write_lerobot(folder, clips, fps=spec.fps, task=task, parts=parts)
    console.print(f"{folder}: {count} episodes of {frames} frames")


def generated(world: World, *, episodes: int, chunks: int, seed: int) -> Iterator[Clip]:
    """Yield episodes of so many chunks, from one start view after the other, each chunk a random action of its body."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed}: seeds are from 0 to 2**63 - 1")
    if world.starts is None:
        raise ValueError("this world has no start views, and begins at given pictures only; pass one that has some")
    body = make_body("auto", world.spec)
    space = body.space(body.modes[0], world.spec.chunk_latents)
    space.seed(seed)
    for first in track(range(0, episodes, BATCH), "generating", total=-(-episodes // BATCH)):
        rows = range(first, min(first + BATCH, episodes))
        engine = Engine(world, len(rows), memory=world.config.memory)
        seen = [engine.reset(seeds=[seed + i for i in rows], starts=[i % len(world.starts) for i in rows])]
        done = []
        for _ in range(chunks):
            action = _batch([space.sample() for _ in rows])
            commands = body.command(action, body.modes[0], engine.present, world.spec)
            seen.append(engine.step(commands))
            done.append(_plain(world.spec, action, commands))
        for row in range(len(rows)):
            yield _clip(world.spec, seen, done, row)


def _batch(actions: list[object]) -> torch.Tensor | dict[str, torch.Tensor]:
    """Stack actions of a space."""
    if isinstance(actions[0], dict):
        return {name: torch.from_numpy(np.stack([one[name] for one in actions])) for name in actions[0]}  # type: ignore[index]
    return torch.from_numpy(np.stack([np.asarray(one) for one in actions]))


def _commanded(spec: WorldSpec) -> str:
    """Name the signal that recordings hold of what is done: of a camera its keys."""
    return next(name for name in (ACTION, "keys", "joints") if spec.environment is not None or name in spec.takes)


def _plain(spec: WorldSpec, action: torch.Tensor | dict[str, torch.Tensor], commands: dict[str, torch.Tensor]) -> Array:
    """Return what was done in a chunk as recordings hold it, (B, F, A): not normalised; of a camera its keys."""
    if spec.environment is None:
        return commands[_commanded(spec)].numpy()
    plain = [replace(part, mean=(), scale=()) for part in spec.environment.actions]
    return embed(plain, action)[:, None].expand(-1, spec.chunk_latents, -1).numpy()


def _clip(spec: WorldSpec, seen: list[Chunk], done: list[Array], row: int) -> Clip:
    """Return what one row of a batch did and saw."""
    frames = np.concatenate([chunk.frames[row].cpu().numpy() for chunk in seen])
    actions = np.concatenate([one[row] for one in done])
    signals = {_commanded(spec): np.concatenate([np.zeros_like(actions[:1]), actions])}
    if all(ROBOT in chunk.signals for chunk in seen):
        signals[ROBOT] = np.concatenate([chunk.signals[ROBOT][row].cpu().numpy() for chunk in seen])
    for told in TOLD:
        if all(told in chunk.signals for chunk in seen[1:]):
            values = np.concatenate([chunk.signals[told][row].cpu().numpy() for chunk in seen[1:]])
            signals[told] = np.concatenate([np.zeros_like(values[:1]), values])
    return Clip(frames, signals, {}, spec.frames_per_latent)
