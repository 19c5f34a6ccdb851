"""What one machine tells of several: a step here and in actors, what travels, what an env keeps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.log import console, track
from ..base.workers import worker_pool
from ..envs.core import EnvCore
from ..envs.ray_env import RayVectorEnv, share_of
from ..envs.vector_env import WorldVectorEnv
from .engine import write_bench

ENV, TASK = "worldenv/Revisit-v0", "revisit"
WARM_UP = 4
"""Steps before counting: until the memory is full and retrieval runs."""
CALLS = 50
"""Calls that the way to an actor and back is timed over."""
SIZES = (1, 16)
"""Envs of the processes whose memory is measured."""


def bench_scale(out: Path, *, name: str, num_envs: int, num_steps: int) -> None:
    """Step a local environment, one actor of as many envs, and two of as many each, in turn; write medians as JSON.

    Each computes on one thread, so that local steps predict what two actors do: one machine's figures are enough for a
    plan of many.
    """
    torch.set_num_threads(1)
    local = WorldVectorEnv(num_envs, task=TASK, world=name, max_episode_steps=-1)
    share = {"num_cpus": 0.25, "num_gpus": share_of(torch.cuda.device_count(), 3)}  # three actors, if on one core
    one, two = (
        RayVectorEnv(
            ENV, num_envs * count, num_actors=count, threads=1, actor_options=share, world=name, max_episode_steps=-1
        )
        for count in (1, 2)
    )
    ways: dict[str, WorldVectorEnv] = {"local": local, "one_actor": one, "two_actors": two}
    for envs in ways.values():
        envs.reset(seed=0)
    assert isinstance(local.core, EnvCore)
    begun = local.core.state_bytes()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for i in track(range(WARM_UP + num_steps), "steps", total=WARM_UP + num_steps):
        for way in list(ways)[:: 1 if i % 2 else -1]:
            action = ways[way].action_space.sample()
            began = time.perf_counter()
            shown = ways[way].step(action)
            seconds[way].append(time.perf_counter() - began)
            if way == "local":
                travels = (_bytes(action) + _bytes(shown)) / num_envs
    kept = (local.core.state_bytes() - begun) / (WARM_UP + num_steps)
    call = _call_seconds(one)
    two.close()
    one.close()
    counted = {way: np.array(taken[WARM_UP:]) for way, taken in seconds.items()}
    overheads = np.percentile(counted["one_actor"] / counted["local"] - 1, [20, 50, 80])
    predicted = 2 * num_envs / (float(np.median(counted["local"])) + call)
    timing = {
        way: {
            "num_envs": ways[way].num_envs,
            "step_ms_p50": round(1000 * float(np.median(taken)), 1),
            "step_ms_least": round(1000 * float(taken.min()), 1),
            "env_steps_per_s": round(ways[way].num_envs / float(np.median(taken)), 2),
        }
        for way, taken in counted.items()
    }
    console.print(
        f"an actor's step takes {overheads[1]:+.1%} ({overheads[0]:+.1%} to {overheads[2]:+.1%}); two actors: "
        f"{timing['two_actors']['env_steps_per_s']} env steps/s, {predicted:.2f} foretold"
    )
    spec, peaks = local.core.spec, {size: _peak_bytes(name, size) for size in SIZES}
    write_bench(
        out,
        world=name,
        num_envs=num_envs,
        steps=num_steps,
        timing=timing,
        actor_overhead={f"p{p}": round(float(v), 3) for p, v in zip((20, 50, 80), overheads, strict=True)},
        call_ms_p50=round(1000 * call, 2),
        two_actors_predicted_env_steps_per_s=round(predicted, 2),
        bytes_per_env_step=round(travels),
        frame_bytes_per_env_step=spec.chunk_frames * spec.height * spec.width * 3,
        state_bytes_per_env=round(begun),
        state_bytes_per_env_and_chunk=round(kept),
        peak_bytes={str(size): peak for size, peak in peaks.items()},
    )


def _peak_bytes(name: str, num_envs: int) -> int:
    """Return the most memory that a process of so many envs takes, of its GPU if it has one."""
    with worker_pool(1, threads=torch.get_num_threads()) as pool:
        return pool.submit(_step_alone, name, num_envs).result()


def _step_alone(name: str, num_envs: int) -> int:
    envs = WorldVectorEnv(num_envs, task=TASK, world=name, max_episode_steps=-1)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])  # getrusage's begins with that of the process that started this one


def _call_seconds(envs: RayVectorEnv) -> float:
    """Return how long the way to an actor and back takes, with what a step takes along."""
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        envs.core.identity()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _bytes(value: Any) -> int:
    """Count the bytes of arrays, inside tuples and dictionaries."""
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, tuple):
        return sum(map(_bytes, value))
    return int(np.asarray(value).nbytes)
