"""A training step under each backend, side by side: its time, and how far losses and gradients are apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator

from ..base.log import console, track
from ..bodies.camera import press
from ..data.dataset import LatentDataset
from ..models.presets import PRESETS
from ..training.loop.learner import Learner
from ..training.loop.optim import OptimConfig, make_optimizers, precision
from ..training.material import DenoiseConfig, Material
from ..training.stages.memory import MemoryStage
from ..training.stages.window import WindowStage
from ..training.windows import draw_windows
from ..world.config import WorldConfig
from ..world.world import World
from .engine import write_bench

REFERENCE = "torch"
"""What ratios compare with: the same step with PyTorch's attention and GELU."""
BACKENDS = (REFERENCE, "auto")
STEPS: dict[str, tuple[Callable[[Material], MemoryStage | WindowStage], DenoiseConfig]] = {
    "memory": (MemoryStage, DenoiseConfig(forcing=0.0)),
    "cached": (MemoryStage, DenoiseConfig(forcing=0.0, cached=1.0)),
    "causal": (partial(WindowStage, causal=True), DenoiseConfig()),
}
"""Kinds of steps: the stage that takes them and what makes it take no other."""
CLIPS, LATENTS = 32, 65


class Step(NamedTuple):
    """What one step was."""

    seconds: float
    loss: float
    grad_norm: float


def bench_training(out: Path, *, name: str, sizes: Sequence[int], num_steps: int) -> None:
    """Take steps of every kind under each backend in turn, on random latents, and write the paired ratios as JSON.

    Raises:
        ValueError: if there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
    accelerator = Accelerator(mixed_precision=precision("auto"))
    rows = [_compare(name, kind, size, num_steps, accelerator) for size in sizes for kind in STEPS]
    write_bench(
        out,
        preset=name,
        steps=num_steps,
        threads=torch.get_num_threads(),
        reference=REFERENCE,
        mixed_precision=accelerator.mixed_precision,
        timing=rows,
    )


def _compare(name: str, kind: str, batch: int, num_steps: int, accelerator: Accelerator) -> dict[str, object]:
    learners = {backend: _learner(name, kind, batch, backend, accelerator) for backend in BACKENDS}
    taken: dict[str, list[Step]] = {backend: [] for backend in BACKENDS}
    drawn = _drawing(_stage(name, kind, batch), num_steps)
    for i in track(range(-1, num_steps), f"{kind}, batch {batch}", total=1 + num_steps):
        for backend in BACKENDS[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            figures = learners[backend].update([torch.Generator().manual_seed(1 + i)], 1e-3, accelerator)
            taken[backend].append(Step(time.perf_counter() - start, figures["loss"], figures["grad_norm"]))
    reference, other = (np.array(taken[backend])[1:] for backend in BACKENDS)  # (steps, 3), the first left out
    p20, p50, p80 = np.percentile(reference[:, 0] / other[:, 0], [20, 50, 80])
    apart = np.abs(other[:, 1:] / reference[:, 1:] - 1).max(0)
    row: dict[str, object] = {
        "step": kind,
        "batch": batch,
        "draws": STEPS[kind][1].draws if kind == "memory" else 1,
        "reference_ms_p50": round(1000 * float(np.median(reference[:, 0])), 1),
        "step_ms_p50": round(1000 * float(np.median(other[:, 0])), 1),
        "times_faster_p50": round(float(p50), 2),
        "times_faster_p20": round(float(p20), 2),
        "times_faster_p80": round(float(p80), 2),
        "drawing_ms_p50": round(1000 * drawn, 2),
        "samples_drawn_per_s": round(batch / drawn),
        "loss_apart": float(f"{apart[0]:.2g}"),
        "grad_norm_apart": float(f"{apart[1]:.2g}"),
    }
    console.print(
        f"{kind:8s} batch {batch:3d}  {row['step_ms_p50']:8} ms  x{p50:.2f} ({p20:.2f}..{p80:.2f})  "
        f"losses apart by {apart[0]:.1g}, {row['samples_drawn_per_s']} samples/s drawn"
    )
    return row


def _learner(name: str, kind: str, batch: int, backend: str, accelerator: Accelerator) -> Learner:
    """Return what updates a stage that computes by a backend."""
    made, optim = _stage(name, kind, batch), OptimConfig(batch=batch, optimizer="muon")
    made.module.to(accelerator.device)
    made.material.world.dit.backend = backend
    return Learner(made.module, made.loss, make_optimizers(made.module, optim), optim.grad_clip)


def _stage(name: str, kind: str, batch: int) -> MemoryStage | WindowStage:
    """Make a stage with the preset's sizes, random weights and random walks."""
    torch.manual_seed(0)
    world = World(WorldConfig(vae=PRESETS[name].vae, dit=PRESETS[name].dit))
    for parameter in world.dit.parameters():
        if not parameter.any():  # what begins at zero would leave out some gradients
            torch.nn.init.normal_(parameter, std=0.02)
    stage, denoise = STEPS[kind]
    return stage(Material(world, denoise, batch, data=_walks(world)))


def _drawing(stage: MemoryStage | WindowStage, count: int) -> float:
    """Return the median time in which a batch is drawn, memory's choice included: what a GPU would wait for."""
    seconds = []
    for seed in range(1 + count):
        generator, began = torch.Generator().manual_seed(seed), time.perf_counter()
        if isinstance(stage, MemoryStage):
            bank, target, _ = stage.chunks.targets(generator)
            stage.chunks.context(bank, target, generator)
        else:
            draw_windows(stage.material, stage.material.config.num_chunks, generator)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


def _walks(world: World) -> LatentDataset:
    """Return random latents along random walks, whose second half needs memory."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 5, (CLIPS, LATENTS, 2), generator=generator)
    start = torch.eye(4, dtype=torch.float64).expand(CLIPS, 4, 4)
    track = press(keys, start, world.spec.steps)
    latents = torch.randn(CLIPS, LATENTS, *world.latent_shape, generator=generator)
    need = (torch.arange(LATENTS) >= LATENTS // 2).float().expand(CLIPS, -1)
    return LatentDataset(latents.half(), track, need)
