"""Does the world obey? Left and right turns from the same state and noise must move the picture opposite ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import Stopwatch, console
from ...base.rng import derive_seed
from ...bodies.camera import press
from ...engine.engine import Engine
from ...world.world import World
from ..image import Array, as_unit
from ..report.document import write_report

TURN_RIGHT, TURN_LEFT = 1, 2


def horizontal_shift(
    before: Tensor,  # (B, H, W, 3) uint8
    after: Tensor,  # (B, H, W, 3) uint8
    *,
    largest: int = 12,
) -> Array:
    """Return how many pixels each picture moved to the right, (B,): the shift with the best normalised correlation."""
    a, b = (as_unit(x[:, None])[:, 0].mean(-1) for x in (before, after))
    width = a.shape[2]
    shifts = np.arange(-largest, largest + 1)
    scores = []
    for shift in shifts:
        x = a[:, :, max(0, -shift) : width - max(0, shift)]
        y = b[:, :, max(0, shift) : width - max(0, -shift)]
        x, y = (v - v.mean((1, 2), keepdims=True) for v in (x, y))
        scores.append((x * y).sum((1, 2)) / np.sqrt((x**2).sum((1, 2)) * (y**2).sum((1, 2)) + 1e-12))
    result: Array = shifts[np.stack(scores).argmax(0)].astype(np.float64)
    return result


def turn_shifts(world: World, starts: list[int], *, num_frames: int = 4) -> tuple[Array, Array]:
    """Turn right and left from the same start views and noise; return the picture's shift after some frames, each (N,).

    Turning right moves the picture left (negative).
    """
    spec, batch = world.spec, len(starts)
    shifts = []
    for rotation in (TURN_RIGHT, TURN_LEFT):
        engine = Engine(world, batch)
        first = engine.reset(seeds=[derive_seed("action-v1", s) for s in starts], starts=list(starts))
        keys = torch.tensor([0, rotation]).expand(batch, spec.chunk_latents, 2)
        frames = engine.step(press(keys, engine.c2w, spec.steps)).frames
        shifts.append(horizontal_shift(first.frames[:, -1], frames[:, num_frames - 1]))
    return shifts[0], shifts[1]


def obedience(right: Array, left: Array) -> Array:
    """Tell for each state whether right moved the picture left and left moved it right; (N,) of 0 and 1."""
    return ((right < 0) & (left > 0)).astype(np.float64)


def run_action(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Turn left and right from ``num_worlds`` held-out start views, from ``first_seed`` on (all, at most 200)."""
    starts = world.require_starts()
    num_worlds, first_seed = num_worlds or min(200, len(starts)), first_seed or 0
    if first_seed + num_worlds > len(starts):
        raise ValueError(
            f"start views {first_seed}..{first_seed + num_worlds - 1} asked for, the world has {len(starts)}"
        )
    watch = Stopwatch()
    right, left = turn_shifts(world, list(range(first_seed, first_seed + num_worlds)))
    obeyed = obedience(right, left)
    seeds = starts.require_maps()[0][first_seed : first_seed + num_worlds].tolist()
    arms = {world.config.memory.policy: {"obeyed": obeyed, "shift_right": right, "shift_left": left}}
    write_report(
        out / "report.json",
        suite="action",
        protocol="action-v1",
        world=world.identity(),
        seeds=seeds,
        arms=arms,
        timing={"seconds": watch.seconds()},
    )
    console.print(f"turns obeyed in {100 * obeyed.mean():.1f} % of {len(obeyed)} states; wrote {out / 'report.json'}")
