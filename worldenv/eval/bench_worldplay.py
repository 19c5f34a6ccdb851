"""What one chunk of the released WorldPlay takes on this machine, by part, on random weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.log import console, git_revision, hardware, track
from ..engine.rollout import new_cache, to_device
from ..engine.worldplay import random_worldplay
from ..geometry.action import camera_to_c2w, keys_to_camera
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.config import Layout, num_slots
from ..memory.context import chunk_mask, condition, context_mask, gather
from ..memory.select import Query, select
from ..models.vae import VAECache

HISTORY = 64
"""Latents remembered: memory is full and retrieval has 13 candidates."""
WARM_UP = 1


@torch.no_grad()
def bench_worldplay(out: Path, *, num_layers: int, size: tuple[int, int], num_steps: int) -> None:
    """Time selection, prefill, one denoising step and decoding of a chunk, and write medians as JSON."""
    device = resolve_device("auto")
    world = random_worldplay(num_layers=num_layers, size=size, device=device, dtype=default_dtype(device))
    spec, config, chunk = world.spec, world.config, world.spec.chunk_latents
    start = torch.eye(4, dtype=torch.float64)
    path = camera_to_c2w(keys_to_camera(torch.tensor([[1, 1]] * (HISTORY + chunk))), start, spec.steps)[None]
    labels = torch.full((1, HISTORY + chunk), 10)
    shape = world.latent_shape
    bank = MemoryBank(torch.randn(1, HISTORY, *shape), path[:, :HISTORY], labels[:, :HISTORY], torch.tensor([HISTORY]))
    coming, noise = path[:, HISTORY:], torch.randn(1, chunk, *shape, device=device)
    K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)
    layout = Layout(chunk, start_alone=False)
    cache = new_cache(world.dit, (1, num_slots(config.memory, chunk) + chunk, *shape), device)
    text = world.dit.encode_text(torch.randn(1, 512, config.dit.text_dim, device=device))

    def choose() -> Tensor:
        return select(bank, Query(coming), config.memory, layout).index

    context = gather(bank, choose(), layout)
    slots = context.latents.shape[1]
    whole = to_device(condition(context, coming, labels[:, HISTORY:], K=K, unit=spec.unit), device)
    whole.timesteps[:, slots:] = 1000
    latents, seen = context.latents.to(device), context_mask(context.entry, causal=False).to(device)
    mask, decoder = chunk_mask(context.valid, chunk).to(device), VAECache()
    world.vae.decode(latents[:, :1], decoder)
    past, now = whole.select(0, slots), whole.select(slots, slots + chunk)
    parts: dict[str, Callable[[], object]] = {
        "selection": choose,
        "prefill": lambda: world.dit.prefill(latents, past, mask=seen, cache=cache, text=text),
        "denoise_step": lambda: world.dit(noise, now, mask=mask, cache=cache, text=text),
        "decode": lambda: world.vae.decode(noise, decoder),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for i in track(range(WARM_UP + num_steps), "chunks", total=WARM_UP + num_steps):
        for name, part in parts.items():
            taken = _timed(part, device)
            if i >= WARM_UP:
                seconds[name].append(taken)
    _write(out, seconds, config.sampler.num_steps, num_layers=num_layers, size=size, dtype=str(world.dit.dtype))


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
    timing["chunk_ms"] = round(sum(timing.values()) + (steps - 1) * timing["denoise_step_ms"], 2)
    if torch.cuda.is_available():
        timing["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    report = {"hardware": hardware(), "git": git_revision(), "layers": num_layers, "size": list(size), "dtype": dtype,
              "denoising_steps": steps, "timing": timing}  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1))
    console.print("  ".join(f"{name} {value:g}" for name, value in timing.items()))
    console.print(f"wrote {out}")
