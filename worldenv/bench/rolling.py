"""What a rolling window costs and how soon it obeys: ``hold`` and ``reset`` beside chunk after chunk and a teacher.

WorldScape, "Causal distillation", whose page reports 8.7 times its bidirectional teacher's speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.device import default_dtype, resolve_device, threads_sleep
from ..base.log import console, track
from ..diffusion.schedule import SamplerConfig
from ..engine.engine import Engine
from ..memory.config import with_policy
from ..world.world import World, shared_world
from .engine import WARM_UP, command, timed_step, write_bench

PUBLISHED_SPEEDUP = 8.7
"""WorldScape's page: the student's speed in units of its teacher's."""
JOINT_CHUNKS = 4
"""Chunks that a teacher denoises jointly, as in training (``DenoiseConfig.num_chunks``)."""
OBEYED = 0.9
"""Share of the full response from which on a chunk counts as obeying."""
EPISODES = 8
"""Episodes over which the response is measured."""
AHEAD, RIGHT, LEFT = (1, 0), (0, 1), (0, 2)
"""Keys: on the way, and the two changes that are compared."""
ANSWERING = ("hold", "reset", "chunk")
"""Ways whose response is measured: as many passes for every chunk."""


class Way(NamedTuple):
    """One way of stepping a world."""

    sampler: SamplerConfig
    num_chunks: int = 1
    """Chunks that a step denoises jointly and emits."""


def ways(own: SamplerConfig, teacher_steps: Sequence[int]) -> dict[str, Way]:
    """Return what is compared, all on the same weights: what is timed depends on sizes and steps alone.

    A world without a window lends its levels to one it was not trained for. ``many_steps_N`` is chunk after chunk in N
    steps; ``joint_teacher_N`` denoises four chunks as one in N steps, as ``training.segments`` does.
    """
    window = own if own.rolling else replace(own, rolling=True, stochastic=True, order=1, noise_horizon=0)
    result = {
        "hold": Way(replace(window, lookahead_policy="hold")),
        "reset": Way(replace(window, lookahead_policy="reset")),
        "chunk": Way(replace(window, rolling=False)),
    }
    for steps in teacher_steps:
        euler = SamplerConfig(num_steps=steps, shift=own.shift)
        result |= {f"many_steps_{steps}": Way(euler), f"joint_teacher_{steps}": Way(euler, JOINT_CHUNKS)}
    return result


def bench_rolling(out: Path, *, name: str, num_envs: int, num_steps: int, teacher_steps: tuple[int, ...]) -> None:
    """Step a world's window under both policies, its chunks and its teachers in turn; write medians as JSON.

    Raises:
        ValueError: if a teacher has no more steps than the window.
    """
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    compared = ways(world.config.sampler, teacher_steps)
    window = compared["hold"].sampler.num_steps
    if min(teacher_steps) <= window:
        raise ValueError(f"teacher_steps={min(teacher_steps)} must be more than the window's {window}")
    timing, response = _timing(world, compared, num_envs, num_steps), _response(world, compared)
    for way in ANSWERING:
        row, late = timing[way], response[way]["chunks"]
        after = None if late is None else round(late * row["chunk_ms"] + row["changed_first_frames_ms"], 1)
        row |= {"action_to_photon_chunks": late, "action_to_photon_ms": after}
        row["begun_before_chunks"] = window - 1 if way == "hold" else 0
    report = {
        "threads_sleep": threads_sleep(),
        "world": world.config.name,
        "envs": num_envs,
        "steps": num_steps,
        "dtype": str(world.dit.dtype),
        "trained_for_it": world.config.sampler.rolling,
        "window_chunks": window,
        "teacher_steps": teacher_steps,
        "timing": timing,
        "obeyed": OBEYED,
        "response": response,
        "published_speedup": PUBLISHED_SPEEDUP,
    }
    _print(report)
    write_bench(out, **report)


def _timing(world: World, compared: dict[str, Way], num_envs: int, num_steps: int) -> dict[str, dict[str, Any]]:
    """Time steps with the action going on and steps at which it changes, all ways in turn."""
    engines = {name: _begun(world, num_envs, way) for name, way in compared.items()}
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    noted: dict[str, list[tuple[bool, float, float, int]]] = {name: [] for name in compared}
    handle = world.dit.register_forward_hook(count)
    total = WARM_UP + 2 * num_steps
    for i in track(range(total), "steps", total=total):
        keys = (RIGHT, RIGHT, LEFT, LEFT)[i % 4]  # every other step another action
        for name, engine in engines.items():
            passes = 0
            whole, first = timed_step(engine, command(engine, torch.tensor([keys] * num_envs)))
            if i >= WARM_UP:
                noted[name].append((i % 2 == 0, whole / compared[name].num_chunks, first, passes))
    handle.remove()
    frames = world.spec.chunk_frames
    timing = {name: _medians(rows, frames * num_envs) for name, rows in noted.items()}
    for name, rows in noted.items():  # step by step, so that what else the machine did touches both
        pairs = zip(rows, noted["hold"], strict=True)
        times = round(float(np.median([a[1] / b[1] for a, b in pairs if not a[0]])), 2)  # where no action changes
        timing[name] |= {"chunks_per_step": compared[name].num_chunks, "times_hold": times}
    return timing


def _medians(rows: list[tuple[bool, float, float, int]], frames: int) -> dict[str, Any]:
    """Sum up every step: (changed, seconds per chunk, seconds until the first frames, passes of the whole step)."""
    result: dict[str, Any] = {}
    for changed, prefix in ((False, ""), (True, "changed_")):
        seconds, first, passes = (np.array(column) for column in zip(*(r[1:] for r in rows if r[0] == changed)))
        median = float(np.median(seconds))
        result |= {
            f"{prefix}chunk_ms": round(1000 * median, 2),
            f"{prefix}frames_per_s": round(frames / median, 1),
            f"{prefix}first_frames_ms": round(1000 * float(np.median(first)), 2),
            f"{prefix}passes": float(np.mean(passes)),
        }
    return result


def _response(world: World, compared: dict[str, Way]) -> dict[str, dict[str, Any]]:
    """Measure how far two changes of action lead apart, chunk by chunk after the change.

    After the same past and on the same noise one engine turns right, the other left; every way has a past of its own.
    Chunk after chunk nothing is begun before the change: that is the full response, of which windows reach a share.
    """
    apart = {name: _apart(world, compared[name]) for name in ANSWERING}
    result = {}
    for name, distances in apart.items():
        share = [round(a / full, 3) for a, full in zip(distances, apart["chunk"], strict=True)]
        rms = [round(a, 4) for a in distances]
        result[name] = {"rms_apart": rms, "share_of_chunk": share, "chunks": obeyed_after(share)}
    return result


def obeyed_after(share: Sequence[float]) -> int | None:
    """Return the first chunk from which on all shares of the full response are at least OBEYED; None without one."""
    late = len(share)
    while late and share[late - 1] >= OBEYED:
        late -= 1
    return late if late < len(share) else None


@torch.no_grad()
def _apart(world: World, way: Way) -> list[float]:
    """Return the RMS difference of latents after turning right and left, for L + 1 chunks from the change on."""
    engines = [_begun(world, EPISODES, way) for _ in range(2)]
    for engine in engines:
        for _ in range(WARM_UP):
            engine.generate(command(engine, torch.tensor([AHEAD] * EPISODES)))
    distances = []
    for _ in range(way.sampler.num_steps + 1):
        right, left = (
            engine.generate(command(engine, torch.tensor([keys] * EPISODES)))
            for engine, keys in zip(engines, (RIGHT, LEFT), strict=True)
        )
        distances.append(float((right - left).square().mean().sqrt()))
    return distances


def _begun(world: World, num_envs: int, way: Way) -> Engine:
    """Begin episodes; joint chunks are one of their length, whose context has the slots that C^tea fills at most.

    T recent latents, and as many retrieved ones as all the chunks retrieve.
    """
    memory = with_policy(world.config.memory, "worldplay") if way.num_chunks > 1 else None  # C^tea is encoded anew
    size = way.num_chunks * world.spec.chunk_latents
    engine = Engine(world, num_envs, memory=memory, sampler=way.sampler, chunk_latents=size)
    engine.reset(seeds=list(range(num_envs)), starts=[None] * num_envs)
    return engine


def _print(report: dict[str, Any]) -> None:
    for way, row in report["timing"].items():
        many = f" over {row['chunks_per_step']} chunks" if row["chunks_per_step"] > 1 else ""
        console.print(
            f"{way:>16}: {row['chunk_ms']:7.1f} ms per chunk ({row['times_hold']:g} times hold), {row['passes']:g} "
            f"passes{many}, {row['frames_per_s']:.0f} frames/s; when the action changes {row['changed_chunk_ms']:.1f} "
            f"ms, {row['changed_passes']:g} passes"
        )
    for way, response in report["response"].items():
        row, late = report["timing"][way], response["chunks"]
        obeys = "not within the window" if late is None else f"after {late} chunks, {row['action_to_photon_ms']:.0f} ms"
        shares = ", ".join(f"{share:.2f}" for share in response["share_of_chunk"])
        why = " by definition" if way == "chunk" else f"; {row['begun_before_chunks']} chunks were begun before"
        console.print(f"{way:>16}: of chunk's response {shares}; obeys {obeys}{why}")
    console.print(f"WorldScape's page: {PUBLISHED_SPEEDUP:g} times as fast as its bidirectional teacher")
    if not report["trained_for_it"]:
        console.print("this world was not trained for a rolling window: its speed is right, its response need not be")
