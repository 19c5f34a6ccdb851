"""``worldenv verify-reference``: is ours the same function as the released model? Golden tensors answer, rung by rung.

A directory of golden tensors holds a transformer and a VAE on any weights and sizes, one prefill with a cached forward
(``forward.safetensors``) and a rollout (``rollout.safetensors``), computed by the reference in float32.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.checkpoint import load_tensors
from ..base.log import console
from ..diffusion.schedule import CONTEXT_TIMESTEP, SamplerConfig, inference_sigmas
from ..dynamics.spec import FRAMES_PER_LATENT
from ..engine.engine import Engine
from ..engine.rollout import new_cache
from ..geometry.action import label_to_keys
from ..geometry.pose import invert_se3
from ..memory.config import MemoryConfig, with_policy
from ..models.pretrained.release import read_json
from ..models.pretrained.worldplay import component_order, released_state
from ..models.prope import camera_projection
from ..models.types import Conditioning
from ..world.world import World
from ..world.worldplay import SAMPLER

TOLERANCE = 1e-4
"""Largest difference that passes, relative to the largest value."""
SAMPLER_TIMESTEPS = tuple((1000 * inference_sigmas(SAMPLER)).tolist())
"""Where a directory names none."""


@dataclass(frozen=True)
class Rung:
    """One comparison."""

    name: str
    largest: float
    """Largest absolute difference."""
    relative: float
    """The same over the largest absolute value of the reference."""
    passed: bool
    detail: str = ""


def verify_reference(folder: Path, *, tolerance: float = TOLERANCE) -> list[Rung]:
    """Compare ours with every golden tensor of a directory."""
    world = World.from_worldplay(folder)
    values = read_json(folder / "config.json")
    sampler = fitted_sampler(values.get("timesteps", SAMPLER_TIMESTEPS))
    rungs = [_keys(world, folder), *_schedule(values, sampler, tolerance)]
    golden, _ = load_tensors(folder / "forward.safetensors")
    rungs += list(_forward(world, golden, tolerance))
    golden, _ = load_tensors(folder / "rollout.safetensors")
    return [*rungs, *_rollout(world, golden, sampler, tolerance)]


def print_rungs(rungs: list[Rung]) -> None:
    """Print the ladder as a table."""
    from rich.table import Table

    table = Table("rung", "largest difference", "relative", "", "", title="parity with the reference")
    for rung in rungs:
        verdict = "[green]pass[/green]" if rung.passed else "[red]FAIL[/red]"
        table.add_row(rung.name, f"{rung.largest:.2e}", f"{rung.relative:.2e}", verdict, rung.detail)
    console.print(table)


def _compare(name: str, ours: Tensor, golden: Tensor, tolerance: float, detail: str = "") -> Rung:
    if ours.shape != golden.shape:
        return Rung(name, float("inf"), float("inf"), False, f"{tuple(ours.shape)} for {tuple(golden.shape)}")
    largest = float((ours.double() - golden.double()).abs().max())
    relative = largest / max(float(golden.abs().max()), 1e-12)
    return Rung(name, largest, relative, relative <= tolerance, detail)


def _keys(world: World, folder: Path) -> Rung:
    """Every released tensor was loaded (strictly) and comes back from our layout bit for bit."""
    wanted, _ = load_tensors(folder / "transformer.safetensors")
    ours = released_state(world.dit)
    equal = sum(name in ours and torch.equal(ours[name], tensor) for name, tensor in wanted.items())
    count = sum(p.numel() for p in world.dit.parameters())
    passed = equal == len(wanted) == len(ours)
    return Rung("keys", 0.0, 0.0, passed, f"{equal} of {len(wanted)} tensors, {count:,} parameters")


def fitted_sampler(timesteps: Sequence[float]) -> SamplerConfig:
    """Find the shifted schedule that these timesteps (falling from 1000 to 0) follow, by their second one."""
    steps = len(timesteps) - 1
    if steps < 2:
        return replace(SAMPLER, num_steps=max(1, steps))
    level, plain = timesteps[1] / 1000, 1 - 1 / steps  # level = shift plain / (1 + (shift - 1) plain)
    return replace(SAMPLER, num_steps=steps, shift=level * (1 - plain) / (plain * (1 - level)))


def _schedule(values: Mapping[str, Any], sampler: SamplerConfig, tolerance: float) -> Iterator[Rung]:
    """The noise levels of the rollout, and the label of clean context."""
    golden = torch.tensor(values.get("timesteps", SAMPLER_TIMESTEPS), dtype=torch.float64)
    detail = f"{sampler.num_steps} steps, shift {sampler.shift:.4g}"
    yield _compare("timesteps", 1000 * inference_sigmas(sampler), golden, tolerance, detail)
    label = torch.tensor([float(values.get("context_timestep", CONTEXT_TIMESTEP))])
    yield _compare("context timestep", torch.tensor([CONTEXT_TIMESTEP]), label, 0.0)


@torch.no_grad()
def _forward(world: World, golden: dict[str, Tensor], tolerance: float) -> Iterator[Rung]:
    """Prefill a context and denoise once against it."""
    dit, config = world.dit, world.dit.config
    context, current = (golden[f"forward.{n}"].transpose(1, 2) for n in ("context", "current"))
    past, total = context.shape[1], context.shape[1] + current.shape[1]
    levels = torch.cat([torch.full((1, past), CONTEXT_TIMESTEP), torch.full((1, total - past), 1000.0)], 1)
    projection, unprojection = camera_projection(invert_se3(golden["forward.w2c"]), golden["forward.K"])
    cond = Conditioning(
        timesteps=levels,
        positions=torch.arange(total)[None],
        labels=golden["forward.action"].view(1, total).long(),
        projection=projection,
        unprojection=unprojection,
    )
    tokens = dit.tokens(context)
    cache = new_cache(dit, (1, total, *context.shape[2:]), torch.device("cpu"))
    text = dit.encode_text(golden["text"])
    dit.prefill(context, cond.select(0, past), mask=None, cache=cache, text=text)
    released = component_order(1, config.head_dim).argsort()
    for layer in range(config.num_layers):
        for i, name in enumerate("kv"):
            ours = cache.buffer[layer, i][:, :, : past * tokens, released]
            halves = torch.cat(ours.chunk(2, 1), -1)
            wanted = golden[f"forward.kv.{layer}.{name}"]
            if wanted.shape[1] != config.num_heads:
                wanted = wanted.transpose(1, 2)
            yield _compare(f"prefill {name.upper()}, layer {layer}", halves, wanted[:, dit.heads], tolerance)
    velocity = dit(current, cond.select(past, total), mask=None, cache=cache, text=text)
    yield _compare("velocity", velocity, golden["forward.velocity"].transpose(1, 2), tolerance)


@torch.no_grad()
def _run(
    world: World, golden: dict[str, Tensor], sampler: SamplerConfig, memory: MemoryConfig
) -> tuple[list[Tensor], dict[int, Tensor], list[float]]:
    """Step an engine along the reference's path with its noise; return latents, selections and seconds by chunk."""
    noise = golden["initial_latents"].transpose(1, 2)
    c2w = invert_se3(golden["w2c"].double())
    keys = label_to_keys(golden["action"].view(1, -1).long())
    chunk = world.spec.chunk_latents
    engine = Engine(world, 1, memory=memory, sampler=sampler, decode=False)
    if not torch.equal(golden["K"], golden["K"][:, :1].expand_as(golden["K"])):
        raise ValueError("the rollout's K changes from frame to frame; a world has one camera, so it cannot be stepped")
    engine.K, engine.history.points = golden["K"][0, 0], golden["memory_points"].double()
    engine.set_prompt(golden["text"])
    view = golden["first_image_latent"].transpose(1, 2)
    engine.begin(torch.zeros(1, dtype=torch.long), view, {"c2w": c2w[:, :1]}, [0], noise=noise)
    made, chosen, seconds = [], {}, []
    for start in range(0, golden["latents"].shape[2], chunk):
        before = max(start, 1)  # the first chunk contains the start view
        window = slice(before, before + chunk)
        began = time.perf_counter()
        made.append(engine.generate({"keys": _padded(keys[:, window], chunk), "c2w": _padded(c2w[:, window], chunk)}))
        seconds.append(time.perf_counter() - began)
        assert engine.history.selection is not None
        chosen[start] = engine.history.selection.index[0]
    return made, chosen, seconds


def _rollout(world: World, golden: dict[str, Tensor], sampler: SamplerConfig, tolerance: float) -> Iterator[Rung]:
    """Compare selections, latents and frames of the reference's rollout."""
    made, chosen, seconds = _run(world, golden, sampler, world.config.memory)
    wanted = golden["latents"].transpose(1, 2)
    asked = zip(golden["selected_at"].tolist(), golden["selected"], strict=True)
    equal = [torch.equal(chosen[start], row) for start, row in asked]
    different = float(equal.count(False))
    yield Rung("selection", different, different, all(equal), f"{sum(equal)} of {len(equal)} contexts identical")
    latents = torch.cat(made, 1)
    detail = f"{len(made)} chunks, {1000 * sorted(seconds)[len(seconds) // 2]:.0f} ms each (median)"
    yield _compare("rollout latents", latents, wanted, tolerance, detail)
    video = golden["video"].transpose(1, 2)
    num_latents = (video.shape[1] - 1) // FRAMES_PER_LATENT + 1
    with torch.no_grad():
        pixels = world.vae.decode(latents[:, :num_latents])
    yield _compare("decoded frames", pixels, video, tolerance, f"{video.shape[1]} frames, one latent at a time")


def approximation(folder: Path) -> list[float]:
    """Return how far latents are off, chunk by chunk, if nothing is encoded anew (``worldscape`` memory).

    The root mean square of the difference from the exact memory over that of the latents, on the reference's rollout.
    """
    world = World.from_worldplay(folder)
    golden, _ = load_tensors(folder / "rollout.safetensors")
    sampler = fitted_sampler(read_json(folder / "config.json").get("timesteps", SAMPLER_TIMESTEPS))
    policies = (world.config.memory, with_policy(world.config.memory, "worldscape"))
    exact, kept = (_run(world, golden, sampler, memory)[0] for memory in policies)
    return [float((a - b).square().mean().sqrt() / a.square().mean().sqrt()) for a, b in zip(exact, kept, strict=True)]


def _padded(values: Tensor, count: int) -> Tensor:
    """Repeat the last entry of (1, F, ...) until there are ``count``; the first chunk drops what is too much."""
    short = count - values.shape[1]
    return torch.cat([values, values[:, -1:].expand(-1, short, *[-1] * (values.ndim - 2))], 1) if short else values
