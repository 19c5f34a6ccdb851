"""What one chunk of the released WorldPlay takes on this machine, by part, on random weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.log import console, git_revision, hardware, track
from ..engine.rollout import encode, new_cache, stage
from ..engine.world import World
from ..engine.worldplay import random_worldplay
from ..geometry.action import camera_to_c2w, keys_to_camera
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.config import Layout, num_slots
from ..memory.context import gather
from ..memory.select import Query, select
from ..models.attention import attend
from ..models.dit import WorldDiT
from ..models.kv_cache import KVCache
from ..models.vae import VAECache

HISTORY = 64
"""Latents remembered: memory is full and retrieval has 13 candidates."""
WARM_UP = 1


@torch.no_grad()
def bench_worldplay(out: Path, *, num_layers: int, size: tuple[int, int], num_steps: int) -> None:
    """Time the parts of a chunk, those of both memories side by side, and write medians as JSON.

    ``worldplay`` encodes its context anew (prefill); ``worldscape`` places what was recorded and records the chunk.
    """
    device = resolve_device("auto")
    world = random_worldplay(num_layers=num_layers, size=size, device=device, dtype=default_dtype(device))
    parts = _parts(world)
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for i in track(range(WARM_UP + num_steps), "chunks", total=WARM_UP + num_steps):
        for name, part in parts.items():
            taken = _timed(part, device)
            if i >= WARM_UP:
                seconds[name].append(taken)
    _write(out, seconds, world.config.sampler.num_steps, num_layers=num_layers, size=size, dtype=str(world.dit.dtype))


def _parts(world: World) -> dict[str, Callable[[], object]]:
    """Return what a chunk consists of, each as a call that can be repeated."""
    spec, config, chunk, dit = world.spec, world.config, world.spec.chunk_latents, world.dit
    device, shape, layout = dit.proj_out.weight.device, world.latent_shape, Layout(chunk, start_alone=False)
    start = torch.eye(4, dtype=torch.float64)
    path = camera_to_c2w(keys_to_camera(torch.tensor([[1, 1]] * (HISTORY + chunk))), start, spec.steps)[None]
    labels, coming = torch.full((1, HISTORY + chunk), 10), path[:, HISTORY:]
    bank = MemoryBank(torch.randn(1, HISTORY, *shape), path[:, :HISTORY], labels[:, :HISTORY], torch.tensor([HISTORY]))

    def choose() -> Tensor:
        return select(bank, Query(coming), config.memory, layout).index

    K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)
    text = dit.encode_text(torch.randn(1, 512, config.dit.text_dim, device=device))
    staged = stage(
        dit, gather(bank, choose(), layout), c2w=coming, labels=labels[:, HISTORY:], K=K, unit=spec.unit, text=text
    )
    cache = new_cache(dit, (1, staged.mask.shape[2], *shape), device)
    prepared, noise = encode(dit, staged, cache, size=shape[1:]), torch.randn(1, chunk, *shape, device=device)
    decoder = VAECache()
    world.vae.decode(noise[:, :1], decoder)
    pages = torch.zeros(config.dit.num_layers, 1, num_slots(config.memory, chunk), dit.tokens(noise),
                        config.dit.num_heads, config.dit.head_dim, dtype=dit.dtype, device=device)  # fmt: skip
    recorded, levels = replace(staged, recorded=(pages, pages)), torch.full((1, chunk), 1000.0, device=device)
    return {
        "selection": choose,
        "prefill": lambda: encode(dit, staged, cache, size=shape[1:]),
        "place": lambda: encode(dit, recorded, cache, size=shape[1:]),
        "denoise_step": lambda: prepared.velocity(noise, levels),
        "attention": lambda: _attend(dit, cache, tokens=dit.tokens(noise) * chunk),
        "record": lambda: prepared.record(noise),
        "decode": lambda: world.vae.decode(noise, decoder),
    }


def _attend(dit: WorldDiT, cache: KVCache, *, tokens: int) -> None:
    """Attend as the blocks of one denoising step do, all branches, and nothing else."""
    for keys, values in cache.buffer:
        attend(keys[:, :, -tokens:], keys, values)


def _timed(part: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    part()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _write(
    out: Path, seconds: dict[str, list[float]], steps: int, *, num_layers: int, size: tuple[int, int], dtype: str
) -> None:
    timing = {f"{name}_ms": round(1000 * float(np.median(values)), 2) for name, values in seconds.items()}
    shared = timing["selection_ms"] + steps * timing["denoise_step_ms"] + timing["decode_ms"]
    timing["worldplay_chunk_ms"] = round(shared + timing["prefill_ms"], 2)
    timing["worldscape_chunk_ms"] = round(shared + timing["place_ms"] + timing["record_ms"], 2)
    if torch.cuda.is_available():
        timing["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    report = {"hardware": hardware(), "git": git_revision(), "layers": num_layers, "size": list(size), "dtype": dtype,
              "denoising_steps": steps, "timing": timing}  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1))
    console.print("  ".join(f"{name} {value:g}" for name, value in timing.items()))
    console.print(f"wrote {out}")
