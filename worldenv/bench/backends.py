"""Ways to compute one world, side by side: the time of a chunk, and how far its frames are from the reference's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.device import DTYPES, resolve_device, threads_sleep
from ..base.log import console, track
from ..engine.engine import Engine
from ..eval.image import psnr
from ..world.world import shared_world
from .engine import WARM_UP, command, random_keys, write_bench


class Way(NamedTuple):
    """How a chunk is computed."""

    dtype: str
    backend: str
    capture: bool = False

    def __str__(self) -> str:
        return " ".join([self.dtype, self.backend, *(["captured"] if self.capture else [])])


REFERENCE = Way("float32", "torch")
"""What ratios and PSNR compare with."""
WAYS = (REFERENCE, Way("bfloat16", "torch"), Way("bfloat16", "auto"))
CAPTURED = (Way("bfloat16", "torch", capture=True), Way("bfloat16", "auto", capture=True))
"""What else there is on a GPU."""


def bench_backends(name: str, out: Path, *, sizes: Sequence[int], num_steps: int) -> None:
    """Step one engine of every way in turn, for several batch sizes, and write the ratios of paired steps as JSON."""
    rows = [row for size in sizes for row in _compare(name, size, num_steps)]
    write_bench(
        out,
        world=name,
        steps=num_steps,
        threads=torch.get_num_threads(),
        threads_sleep=threads_sleep(),
        reference=str(REFERENCE),
        timing=rows,
    )


def _compare(name: str, size: int, num_steps: int) -> list[dict[str, object]]:
    device = resolve_device("auto")
    ways = WAYS + (CAPTURED if device.type == "cuda" else ())
    engines = {way: _engine(name, size, device, way) for way in ways}
    for engine in engines.values():
        engine.reset(seeds=list(range(size)), starts=[None] * size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(WARM_UP):
        engines[REFERENCE].step(command(engines[REFERENCE], random_keys(size, generator)))
    context = engines[REFERENCE].clone_state(range(size))
    for engine in engines.values():
        engine.restore_state(context, range(size))
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    first: dict[Way, Tensor] = {}
    for i in track(range(-1, num_steps), f"{size} envs", total=1 + num_steps):
        actions = command(engines[REFERENCE], random_keys(size, generator))
        for way in ways[i % len(ways) :] + ways[: i % len(ways)]:
            start = time.perf_counter()
            frames = engines[way].step(actions).frames
            if i < 0:
                first[way] = frames
            else:
                seconds[way].append(time.perf_counter() - start)
    return [_row(size, way, seconds, first) for way in ways]


def _engine(name: str, size: int, device: torch.device, way: Way) -> Engine:
    world = shared_world(name, device=device, dtype=DTYPES[way.dtype], backend=way.backend)
    return Engine(world, size, capture=way.capture)


def _row(size: int, way: Way, seconds: dict[Way, list[float]], first: dict[Way, Tensor]) -> dict[str, object]:
    p20, p50, p80 = np.percentile(np.divide(seconds[REFERENCE], seconds[way]), [20, 50, 80])
    apart = None if way == REFERENCE else float(psnr(first[way], first[REFERENCE]).mean())
    row: dict[str, object] = {
        "num_envs": size,
        **way._asdict(),
        "chunk_ms_p50": round(1000 * float(np.median(seconds[way])), 1),
        "times_faster_p50": round(float(p50), 2),
        "times_faster_p20": round(float(p20), 2),
        "times_faster_p80": round(float(p80), 2),
        "first_chunk_psnr": None if apart is None else round(apart, 1),
    }
    said = f"x{p50:.2f} ({p20:.2f}..{p80:.2f})" + ("" if apart is None else f"  first chunk {apart:.1f} dB")
    console.print(f"{size:4d} envs  {way!s:24s} {row['chunk_ms_p50']:8} ms  {said}")
    return row
