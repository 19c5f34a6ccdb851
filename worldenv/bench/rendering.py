"""What rendered memory and walls cost: the same world without, with the one and with both, stepped in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..base.device import default_dtype, resolve_device, threads_sleep
from ..base.log import console, track
from ..engine.engine import Engine
from ..eval.image import Array
from ..world.world import World, shared_world
from .engine import WARM_UP, command, random_keys, write_bench

FULL = 5
"""Chunks after which the context is full and there are several views to render."""


def bench_rendering(name: str, out: Path, *, sizes: Sequence[int], num_steps: int) -> None:
    """Step three engines of every size in turn and write the ratios of paired steps as JSON.

    Raises:
        ValueError: if the world has no depth head.
    """
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    world.require_depth_head()
    rows = [_compare(world, size, num_steps) for size in sizes]
    write_bench(
        out, world=name, steps=num_steps, threads=torch.get_num_threads(), threads_sleep=threads_sleep(), timing=rows
    )


def _compare(world: World, size: int, num_steps: int) -> dict[str, object]:
    plain, rendered = (replace(world.config.memory, render=render) for render in (False, True))
    engines = [
        Engine(world, size, memory=plain),
        Engine(world, size, memory=rendered),
        Engine(world, size, memory=rendered, walls=True),
    ]
    for engine in engines:
        engine.reset(seeds=list(range(size)), starts=[None] * size)
    generator, seconds = torch.Generator().manual_seed(0), np.zeros((num_steps, len(engines)))
    for i in track(range(-max(FULL, WARM_UP), num_steps), f"{size} envs", total=max(FULL, WARM_UP) + num_steps):
        keys = random_keys(size, generator)
        for which in np.roll(range(len(engines)), i).tolist():
            actions = command(engines[which], keys)
            start = time.perf_counter()
            engines[which].step(actions)
            if i >= 0:
                seconds[i, which] = time.perf_counter() - start
    taken = dict(zip(("chunk", "rendered_chunk", "walled_chunk"), 1000 * np.median(seconds, 0), strict=True))
    longer = _ratios(seconds, 1, "times_longer") | _ratios(seconds, 2, "walled_times_longer")
    console.print(f"{size:4d} envs  " + "  ".join(f"{key} {value:.0f} ms" for key, value in taken.items()))
    console.print("  ".join(f"{key} {value:.2f}" for key, value in longer.items()))
    return {"num_envs": size, **{f"{key}_ms_p50": round(float(value), 1) for key, value in taken.items()}, **longer}


def _ratios(seconds: Array, which: int, name: str) -> dict[str, float]:
    """Return how many times as long a way takes as the plain one, over paired steps."""
    found = np.percentile(seconds[:, which] / seconds[:, 0], [20, 50, 80])
    return {f"{name}_p{p}": round(float(value), 3) for p, value in zip((20, 50, 80), found, strict=True)}
