"""Behaviour cloning of recorded hands with action chunks (``action_chunks``); the error is L1."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldenv.base.checkpoint import save_tensors
from worldenv.base.config import to_dict
from worldenv.base.lock import in_use
from worldenv.base.log import console
from worldenv.data.schema import Clip, read_shard, shard_paths
from worldenv.models.codec import to_pixels
from worldenv.tasks.manipulate import Manipulate
from worldenv.tasks.registry import make_task

from .action_chunks import FILE, FORMAT, ActionChunks, CloningConfig
from .progress import finite


def clone(recording: Path, config: CloningConfig, out: Path) -> dict[str, float]:
    """Learn from the expert episodes of a recording; return the mean error of the last 100 steps.

    Raises:
        ValueError: if there are fewer of them, or the recording is not of the hand's table.
    """
    with in_use(out):
        frames, joints, goals = _demonstrations(recording, config.episodes)
        torch.manual_seed(config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        module = ActionChunks(config)
        moves = joints[:, _ahead(joints, config)] - joints[:, :-1, None]  # (N, F - 1, ahead, J)
        with torch.no_grad():
            module.scale.copy_(moves.flatten(0, 2).std(0).clamp(min=1e-3))
        with finite(module):
            errors = _descend(module, config, frames, joints, goals, generator)
        save_tensors(out / FILE, module.state_dict(), header={"format": FORMAT, "config": to_dict(config)})
    return {"error": float(np.mean(errors))}


def _ahead(joints: Tensor, config: CloningConfig) -> Tensor:
    """Return which latents are planned at each but the last, (F - 1, ahead)."""
    last = joints.shape[1] - 1
    return (torch.arange(last)[:, None] + 1 + torch.arange(config.ahead)).clamp(max=last)


def _descend(
    module: ActionChunks,
    config: CloningConfig,
    frames: Tensor,  # (N, F, H, W, 3) uint8
    joints: Tensor,  # (N, F, J)
    goals: Tensor,  # (N, 3)
    generator: torch.Generator,
) -> list[float]:
    """Take all steps; return the errors of the last 100."""
    index, last = _ahead(joints, config), joints.shape[1] - 1
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    errors: list[float] = []
    for step in range(1, config.steps + 1):
        row = torch.randint(len(frames), (config.batch,), generator=generator)
        at = torch.randint(last, (config.batch,), generator=generator)
        image = _shifted(to_pixels(frames[row, at]), config.shift, generator)
        made = module(image, joints[row, at], goals[row])
        error = ((made - joints[row[:, None], index[at]]).abs() / module.scale).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        errors = [*errors[-99:], float(error.detach())]
        if step % 100 == 0 or step == config.steps:
            console.print(f"{step:6d}  error {np.mean(errors):.4f}", highlight=False)
    return errors


def _demonstrations(recording: Path, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames at the ends of latents (N, F, H, W, 3), joints (N, F, J) and goals (N, 3) of expert episodes."""
    wanted = ("frames", "joints", "object", "target")
    shards = (read_shard(path, only=wanted) for path in shard_paths(recording))
    clips: list[Clip] = []
    for clip in chain.from_iterable(shards):
        lacking = [name for name in wanted[1:] if name not in clip.signals]
        if lacking:
            raise ValueError(f"{recording} has no {lacking[0]}; hands are cloned from `worldenv record --env hand/...`")
        if clip.attributes.get("kind") == "expert":
            clips.append(clip)
            if len(clip.frames) != len(clips[0].frames):
                lengths = f"{len(clips[0].frames)} and {len(clip.frames)}"
                raise ValueError(f"{recording}: episodes of {lengths} frames; record some that are equally long")
        if len(clips) == count:
            break
    if len(clips) < count:
        raise ValueError(
            f"{recording} has {len(clips)} expert episodes, episodes={count}; record more, or ask for fewer"
        )
    frames = torch.stack([torch.from_numpy(clip.frames[:: clip.frames_per_latent]) for clip in clips])
    joints = torch.stack([torch.from_numpy(clip.signals["joints"]) for clip in clips]).float()
    return frames, joints, torch.cat([_goal(clip) for clip in clips]).float()


def _goal(clip: Clip) -> Tensor:
    """Return the goal that an expert was shown, by its task, (1, 3)."""
    thing, target = (torch.from_numpy(clip.signals[name][:1, :3]).double() for name in ("object", "target"))
    task = make_task(f"hand_{clip.attributes['task']}")
    assert isinstance(task, Manipulate)
    return task.goal(thing, target)


def _shifted(image: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move pictures (B, 3, H, W) by up to so many pixels each way; edges are repeated."""
    if not most:
        return image
    padded = F.pad(image, (most,) * 4, mode="replicate")
    down, across = torch.randint(2 * most + 1, (2, len(image)), generator=generator).tolist()
    height, width = image.shape[2:]
    return torch.stack([x[:, i : i + height, j : j + width] for x, i, j in zip(padded, down, across, strict=True)])
