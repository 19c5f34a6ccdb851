"""What a rolling window costs and how soon it obeys: ``hold`` and ``reset`` beside chunk after chunk.

WorldScape, "Causal distillation", whose page reports 8.7 times its teacher's speed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device, threads_sleep
from ..base.log import console, git_revision, hardware, track
from ..diffusion.schedule import SamplerConfig
from ..engine.engine import Engine
from ..engine.world import World, shared_world
from .bench import WARM_UP, command, timed_step

PUBLISHED_SPEEDUP = 8.7
"""WorldScape's page: the student's speed in units of its teacher's."""
OBEYED = 0.9
"""Share of the full response at which a chunk counts as obeying."""
EPISODES = 8
"""Episodes over which the response is measured."""
AHEAD, RIGHT, LEFT = (1, 0), (0, 1), (0, 2)
"""Keys: on the way, and the two changes that are compared."""


def samplers(own: SamplerConfig, teacher_steps: int) -> dict[str, SamplerConfig]:
    """Return what is compared; a world without a window lends its levels to one it was not trained for."""
    window = own if own.rolling else replace(own, rolling=True, stochastic=True, order=1, noise_horizon=0)
    return {
        "hold": replace(window, lookahead_policy="hold"),
        "reset": replace(window, lookahead_policy="reset"),
        "chunk": replace(window, rolling=False),
        "teacher": SamplerConfig(num_steps=teacher_steps, shift=own.shift),
    }


def bench_rolling(out: Path, *, name: str, num_envs: int, num_steps: int, teacher_steps: int) -> None:
    """Step a world's window under both policies, its chunks and its teacher's steps in turn; write medians as JSON.

    Raises:
        ValueError: if the teacher has no more steps than the window.
    """
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    arms = samplers(world.config.sampler, teacher_steps)
    if teacher_steps <= arms["hold"].num_steps:
        raise ValueError(f"teacher_steps={teacher_steps} must be more than the window's {arms['hold'].num_steps}")
    timing = _timing(world, arms, num_envs, num_steps)
    response = _response(world, arms)
    fastest = timing["hold"]["step_ms"]
    for policy in ("hold", "reset"):
        row, late = timing[policy], response[policy]["chunks"]
        row["action_to_photon_chunks"] = late
        row["begun_before_chunks"] = arms[policy].num_steps - 1 if policy == "hold" else 0
        row["action_to_photon_ms"] = None if late is None else round(late * fastest + row["changed_first_frames_ms"], 1)
    report = {
        "hardware": hardware(), "git": git_revision(), "threads_sleep": threads_sleep(), "world": world.config.name,
        "envs": num_envs, "steps": num_steps, "dtype": str(world.dit.dtype),
        "trained_for_it": world.config.sampler.rolling,
        "window_chunks": arms["hold"].num_steps, "teacher_steps": teacher_steps, "timing": timing,
        "response": response, "speedup_over_teacher": timing["teacher"]["times_hold"],
        "speedup_over_chunks": timing["chunk"]["times_hold"], "published_speedup": PUBLISHED_SPEEDUP,
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1))
    _print(report)
    console.print(f"wrote {out}")


def _timing(world: World, arms: dict[str, SamplerConfig], num_envs: int, num_steps: int) -> dict[str, dict[str, Any]]:
    """Time steps with the action going on and steps at which it changes, all arms in turn."""
    engines = {arm: _begun(world, num_envs, sampler) for arm, sampler in arms.items()}
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    noted: dict[str, list[tuple[bool, float, float, int]]] = {arm: [] for arm in arms}
    handle = world.dit.register_forward_hook(count)
    total = WARM_UP + 2 * num_steps
    for i in track(range(total), "steps", total=total):
        keys = (RIGHT, RIGHT, LEFT, LEFT)[i % 4]  # every other step another action
        for arm, engine in engines.items():
            passes = 0
            whole, first = timed_step(engine, torch.tensor([keys] * num_envs))
            if i >= WARM_UP:
                noted[arm].append((i % 2 == 0, whole, first, passes))
    handle.remove()
    frames = world.spec.chunk_frames
    timing = {arm: _medians(rows, frames * num_envs) for arm, rows in noted.items()}
    for arm, rows in noted.items():  # step by step, so that what else the machine did touches both
        timing[arm]["times_hold"] = round(float(np.median([a[1] / b[1] for a, b in zip(rows, noted["hold"])])), 2)
    return timing


def _medians(rows: list[tuple[bool, float, float, int]], frames: int) -> dict[str, Any]:
    """Sum up (changed, seconds, seconds until the first frames, passes) of every step."""
    result: dict[str, Any] = {}
    for changed, prefix in ((False, ""), (True, "changed_")):
        seconds, first, passes = (np.array(column) for column in zip(*(r[1:] for r in rows if r[0] == changed)))
        median = float(np.median(seconds))
        result |= {
            f"{prefix}step_ms": round(1000 * median, 2), f"{prefix}frames_per_s": round(frames / median, 1),
            f"{prefix}first_frames_ms": round(1000 * float(np.median(first)), 2),
            f"{prefix}passes": float(np.mean(passes)),
        }  # fmt: skip
    return result


@torch.no_grad()
def _response(world: World, arms: dict[str, SamplerConfig]) -> dict[str, dict[str, Any]]:
    """Measure how far two changes of action lead apart, chunk by chunk after the change.

    After the same past and on the same noise one engine turns right, the other left. Under ``reset`` no chunk has been
    denoised for another action, which is the full response; what ``hold`` reaches of it is its share.
    """
    apart = {arm: _apart(world, arms[arm]) for arm in ("hold", "reset", "chunk")}
    result = {}
    for arm, distances in apart.items():
        share = distances / apart["reset"]
        obeyed = (share >= OBEYED).nonzero()[:, 0].tolist()
        result[arm] = {
            "rms_apart": [round(float(d), 4) for d in distances],
            "share_of_reset": [round(float(s), 3) for s in share],
            "chunks": obeyed[0] if obeyed else None,
        }
    return result


def _apart(world: World, sampler: SamplerConfig) -> Tensor:
    """Return the RMS difference of latents after turning right and left, for L + 1 chunks from the change on."""
    engines = [_begun(world, EPISODES, sampler) for _ in range(2)]
    for engine in engines:
        for _ in range(WARM_UP):
            engine.generate(command(engine, torch.tensor([AHEAD] * EPISODES)))
    distances = []
    for _ in range(sampler.num_steps + 1):
        right, left = (
            engine.generate(command(engine, torch.tensor([keys] * EPISODES)))
            for engine, keys in zip(engines, (RIGHT, LEFT), strict=True)
        )
        distances.append((right - left).square().mean().sqrt().cpu())
    return torch.stack(distances)


def _begun(world: World, num_envs: int, sampler: SamplerConfig) -> Engine:
    engine = Engine(world, num_envs, sampler=sampler)
    engine.reset(seeds=list(range(num_envs)), starts=[None] * num_envs)
    return engine


def _print(report: dict[str, Any]) -> None:
    for arm, row in report["timing"].items():
        late = row.get("action_to_photon_chunks")
        obeys = f"; obeys after {late} chunks, {row['action_to_photon_ms']:.0f} ms" if late is not None else ""
        obeys += f"; {row['begun_before_chunks']} chunks were begun before it" if row.get("begun_before_chunks") else ""
        console.print(
            f"{arm:>8}: {row['step_ms']:7.1f} ms per step, {row['passes']:g} passes, {row['frames_per_s']:.0f} "
            f"frames/s; when the action changes {row['changed_step_ms']:.1f} ms, {row['changed_passes']:g} "
            f"passes{obeys}"
        )
    console.print(
        f"{report['speedup_over_teacher']:g} times as fast as {report['teacher_steps']} steps (WorldScape's page: "
        f"{PUBLISHED_SPEEDUP:g}), {report['speedup_over_chunks']:g} times as fast as chunk after chunk"
    )
    if not report["trained_for_it"]:
        console.print("this world was not trained for a rolling window: its speed is right, its response need not be")
