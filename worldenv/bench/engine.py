"""Throughput and latency of the engine on this machine: medians of interleaved steps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device, threads_sleep
from ..base.files import save_text
from ..base.log import console, git_revision, hardware, track
from ..bodies.camera import press
from ..dynamics.signals import Track
from ..engine.engine import Engine
from ..eval.report.latency import latency
from ..world.world import shared_world

WARM_UP = 6
"""Steps before counting: until the memory is full and retrieval runs."""


def bench_engine(
    name: str, out: Path, *, sizes: tuple[int, ...], num_steps: int, decode: bool = True, capture: bool = False
) -> None:
    """Step engines of several batch sizes in turn and write their medians as JSON."""
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    walls = world.has_walls(world.config.memory)  # as environments have them
    engines = {size: Engine(world, size, decode=decode, capture=capture, walls=walls) for size in sizes}
    for size, engine in engines.items():
        engine.reset(seeds=list(range(size)), starts=[None] * size)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    first: dict[int, list[float]] = {size: [] for size in sizes}
    generator = torch.Generator().manual_seed(0)
    for i in track(range(WARM_UP + num_steps), "steps", total=WARM_UP + num_steps):
        for size, engine in engines.items():
            whole, until_first = timed_step(engine, random_commands(engine, generator))
            if i >= WARM_UP:
                seconds[size].append(whole)
                first[size].append(until_first)
    frames = world.spec.chunk_frames
    pixels = world.spec.width * world.spec.height
    rows = []
    for size in sizes:
        median = float(np.median(seconds[size]))
        rows.append(
            {
                "num_envs": size,
                "frames_per_step": frames,
                "env_steps_per_s": round(size / median, 2),
                "frames_per_s": round(size * frames / median, 1),
                **({"pixel_throughput": round(size * frames * pixels / median / 1e6, 3)} if decode else {}),
                **latency(first[size]),
            }
        )
        console.print(
            f"{size:4d} envs  {rows[-1]['frames_per_s']:8.1f} frames/s  "
            f"{rows[-1]['env_steps_per_s']:7.2f} env steps/s  "
            f"first {'frames' if decode else 'latents'} after {rows[-1]['latency_ms_p50']:.0f} ms"
        )
    write_bench(
        out,
        world=world.config.name,
        steps=num_steps,
        dtype=str(world.dit.dtype),
        decode=decode,
        capture=capture,
        threads_sleep=threads_sleep(),
        timing=rows,
    )


def write_bench(out: Path, **figures: Any) -> None:
    """Write what was measured, on what and with which code, as JSON."""
    save_text(out, json.dumps({"hardware": hardware(), "git": git_revision(), **figures}, indent=1))
    console.print(f"wrote {out}")


def random_keys(num_envs: int, generator: torch.Generator) -> Tensor:
    """Walk ahead, straight or turning: a pair of key codes per env, (B, 2)."""
    rotation = torch.randint(0, 3, (num_envs,), generator=generator)
    return torch.stack([torch.ones_like(rotation), rotation], -1)


def random_commands(engine: Engine, generator: torch.Generator) -> Track:
    """Return commands of every env's next chunk: a camera walks; what else is commanded is held, whatever it means."""
    if engine.spec.has_camera:
        return command(engine, random_keys(engine.num_envs, generator))
    track = engine.spec.still(engine.num_envs)
    return track.map(lambda part: torch.rand(part.shape, generator=generator).to(part.dtype)).map(
        lambda part: part.expand(-1, engine.spec.chunk_latents, *part.shape[2:])
    )


def command(engine: Engine, keys: Tensor) -> Track:
    """Hold a pair of key codes per env, (B, 2), for a chunk."""
    return press(keys[:, None].expand(-1, engine.spec.chunk_latents, -1), engine.c2w, engine.spec.steps)


def timed_step(engine: Engine, actions: Track) -> tuple[float, float]:
    """Take a step; return its seconds and those until its first frames."""
    start = time.perf_counter()
    stream = engine.stream(actions)
    next(stream, None)
    latency = time.perf_counter() - start
    for _ in stream:
        pass
    return time.perf_counter() - start, latency
