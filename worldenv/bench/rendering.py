"""What it costs to render memory into the coming view: the same world with and without, stepped in turn."""

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
from ..world.world import World, shared_world
from .engine import WARM_UP, command, random_keys, write_bench

FULL = 5
"""Chunks after which the context is full and there are several views to render."""


def bench_rendering(name: str, out: Path, *, sizes: Sequence[int], num_steps: int) -> None:
    """Step two engines of every size in turn and write the ratios of paired steps as JSON.

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
    engines = [Engine(world, size, memory=replace(world.config.memory, render=render)) for render in (False, True)]
    for engine in engines:
        engine.reset(seeds=list(range(size)), starts=[None] * size)
    generator, seconds = torch.Generator().manual_seed(0), np.zeros((num_steps, 2))
    for i in track(range(-max(FULL, WARM_UP), num_steps), f"{size} envs", total=max(FULL, WARM_UP) + num_steps):
        actions = command(engines[0], random_keys(size, generator))
        for which in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            engines[which].step(actions)
            if i >= 0:
                seconds[i, which] = time.perf_counter() - start
    p20, p50, p80 = np.percentile(seconds[:, 1] / seconds[:, 0], [20, 50, 80])
    plain, rendered = 1000 * np.median(seconds, 0)
    console.print(f"{size:4d} envs  {plain:.0f} ms, rendered {rendered:.0f} ms: x{p50:.2f} ({p20:.2f}..{p80:.2f})")
    return {
        "num_envs": size,
        "chunk_ms_p50": round(float(plain), 1),
        "rendered_chunk_ms_p50": round(float(rendered), 1),
        "times_longer_p50": round(float(p50), 3),
        "times_longer_p20": round(float(p20), 3),
        "times_longer_p80": round(float(p80), 3),
    }
