"""What one chunk of the released WorldPlay takes on this machine, by part, on random weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.device import default_dtype, resolve_device
from ..base.log import console, track
from ..bodies.camera import press
from ..engine.engine import Engine
from ..engine.rollout import Prepared, Staged
from ..memory.config import with_policy
from ..models.causal_conv import VAECache
from ..models.ranks import Ranks
from ..world.world import World
from ..world.worldplay import random_release
from .engine import write_bench

HISTORY = 64
"""Latents remembered: memory is full and retrieval has 13 candidates."""
WARM_UP = 1


@torch.no_grad()
def bench_worldplay(out: Path, *, num_layers: int, size: tuple[int, int], num_steps: int) -> None:
    """Time the parts of a chunk, those of both memories side by side, and write medians as JSON.

    ``worldplay`` encodes its context anew; ``worldscape`` places what was recorded and records the chunk.
    """
    device = resolve_device("auto")
    made = random_release(num_layers=num_layers, size=size, device=device, dtype=default_dtype(device))
    ranks = made.dit.ranks
    world = World(made.config, vae=made.vae, dit=made.dit)
    parts = _parts(world, "worldplay") | _parts(world, "worldscape") | {"decode": _decoding(world)}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    sent = {name: _sent(part, ranks) for name, part in parts.items()}
    for i in track(range(WARM_UP + num_steps), "chunks", total=WARM_UP + num_steps):
        for name, part in parts.items():
            taken = _timed(part, device)
            if i >= WARM_UP:
                seconds[name].append(taken)
    steps, dtype = world.config.sampler.num_steps, str(world.dit.dtype)
    shared = {} if ranks is None else _shared(world, ranks, sent, steps)
    if ranks is None or not ranks.index:
        _write(out, seconds, steps, num_layers=num_layers, size=size, dtype=dtype, **shared)


def _parts(world: World, policy: str) -> dict[str, Callable[[], object]]:
    """Return what the latents of a chunk under a policy take, through the engine's own memory, as repeatable calls."""
    engine = Engine(world, 1, memory=with_policy(world.config.memory, policy), decode=False)
    history, spec, dit, device = engine.history, world.spec, world.dit, engine.device
    chunk, start = spec.chunk_latents, torch.eye(4, dtype=torch.float64)
    keys = torch.tensor([[1, 1]] * (HISTORY + chunk))
    track = press(keys[None], start[None], spec.steps)
    text = dit.encode_text(torch.randn(1, 512, dit.config.text_dim, device=device))
    rows, latents = torch.zeros(1, dtype=torch.long), torch.randn(1, HISTORY, *world.latent_shape)
    history.begin(rows, latents, track.part(slice(HISTORY)), K=engine.K, text=text)

    def choose() -> Staged:
        return history.stage(rows, track.part(slice(HISTORY, None)), K=engine.K, text=text, seeds=[0])

    staged = choose()
    prepared, noise = history.encode(staged), torch.randn(1, chunk, *world.latent_shape, device=device)
    levels = torch.full((1, chunk), 1000.0, device=device)
    parts = {
        "selection": choose,
        "context": lambda: history.encode(staged),
        "denoise_step": lambda: prepared.velocity(noise, levels),
        "attention": _attention(prepared, tokens=dit.tokens(noise)),
    } | ({"record": lambda: prepared.record(noise)} if history.records else {})
    return {f"{policy}_{name}": part for name, part in parts.items()}


def _attention(prepared: Prepared, *, tokens: int) -> Callable[[], object]:
    """Return what attends to the context as the blocks of one denoising step do, placing included, and no more."""
    dit, place = prepared.dit, prepared.place
    assert place is not None
    config, dtype = dit.config, dit.dtype
    backend = dit.backend_for(prepared.mask, tokens=tokens, dtype=dtype)
    shape = (*prepared.now.positions.shape, tokens, dit.num_heads, config.head_dim)
    q, k, v = (torch.randn(shape, device=prepared.mask.device, dtype=dtype) for _ in range(3))
    return lambda: [prepared.cache.attend(layer, q, k, v, place, backend) for layer in range(config.num_layers)]


def _decoding(world: World) -> Callable[[], object]:
    latents = torch.randn(1, world.spec.chunk_latents, *world.latent_shape, device=world.vae.latent_mean.device)
    past = VAECache()
    world.vae.decode(latents[:, :1], past)
    return lambda: world.vae.decode(latents, past)


def _sent(part: Callable[[], object], ranks: Ranks | None) -> int:
    """Return the bytes that a call sends to other processes."""
    before = 0 if ranks is None else ranks.sent
    part()
    return 0 if ranks is None else ranks.sent - before


def _shared(world: World, ranks: Ranks, sent: dict[str, int], steps: int) -> dict[str, Any]:
    """Return what a chunk sends from each process, beside the least that trading heads for tokens can send.

    That is q, k, v and both branches' answers of its tokens, in every layer and denoising step, to the others.
    """
    config, spec = world.config.dit, world.spec
    tokens = spec.chunk_latents * world.latent_shape[1] * world.latent_shape[2] // config.patch**2
    numbers = (3 + config.num_branches) * tokens * config.width
    passed = numbers * world.dit.dtype.itemsize * (ranks.count - 1) // ranks.count**2
    once = sum(sent.get(f"worldplay_{part}", 0) for part in ("selection", "context")) + sent["decode"]
    figures = {
        "processes": ranks.count,
        "sent_mb_per_chunk_and_process": round((once + steps * sent["worldplay_denoise_step"]) / 1e6, 2),
        "sent_mb_per_denoising_step": round(sent["worldplay_denoise_step"] / 1e6, 2),
        "least_mb_per_denoising_step": round(config.num_layers * passed / 1e6, 2),
    }
    console.print("  ".join(f"{name} {value:g}" for name, value in figures.items()))
    return figures


def _timed(part: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    part()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _write(
    out: Path,
    seconds: dict[str, list[float]],
    steps: int,
    *,
    num_layers: int,
    size: tuple[int, int],
    dtype: str,
    **shared: Any,
) -> None:
    timing = {f"{name}_ms": round(1000 * float(np.median(values)), 2) for name, values in seconds.items()}
    for policy in ("worldplay", "worldscape"):
        once = sum(timing.get(f"{policy}_{part}_ms", 0.0) for part in ("selection", "context", "record"))
        whole = once + steps * timing[f"{policy}_denoise_step_ms"] + timing["decode_ms"]
        timing[f"{policy}_chunk_ms"] = round(whole, 2)
    if torch.cuda.is_available():
        timing["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    console.print("  ".join(f"{name} {value:g}" for name, value in timing.items()))
    write_bench(out, layers=num_layers, size=list(size), dtype=dtype, denoising_steps=steps, timing=timing, **shared)
