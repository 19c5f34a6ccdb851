"""TorchRL's own collectors on our vector environment, in one process and in two, beside ``RayVectorEnv``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.cluster import LOCAL, connect
from ..base.log import console, track
from ..base.objects import import_extra
from ..envs.ray_env import RayVectorEnv
from ..envs.vector_env import WorldVectorEnv
from .engine import write_bench
from .scale import ENV, TASK, WARM_UP

ENDLESS = 10**9
"""Frames after which a collector would stop; not -1, which ends RayCollector at once."""
Batch = Callable[[], int]
"""Takes steps and returns how many env steps they were."""


def bench_collectors(out: Path, *, name: str, num_envs: int, num_steps: int) -> None:
    """Collect batches of one step of every env by each collector in turn, random actions; write medians as JSON.

    Processes step ``num_envs`` envs each, in one model call on one thread.
    """
    torch.set_num_threads(1)
    make = partial(_wrapped, name, num_envs)
    ways: dict[str, Callable[[], Any]] = {
        "vector env": partial(_stepping, lambda: WorldVectorEnv(num_envs, **_arguments(name))),
        "Collector": partial(_collecting, "Collector", make, num_envs),
        "MultiSyncCollector, 1": partial(_collecting, "MultiSyncCollector", [make], num_envs),
        "MultiSyncCollector, 2": partial(_collecting, "MultiSyncCollector", [make] * 2, 2 * num_envs),
        "RayCollector, 1": partial(_collecting_over_ray, [make], num_envs),
        "RayCollector, 2": partial(_collecting_over_ray, [make] * 2, 2 * num_envs),
        "RayVectorEnv, 1": partial(_stepping, partial(_actors, name, num_envs, 1)),
        "RayVectorEnv, 2": partial(_stepping, partial(_actors, name, num_envs, 2)),
    }
    rows = []
    for way, open_way in ways.items():
        with open_way() as collect:
            seconds, steps = [], 0
            for i in track(range(WARM_UP + num_steps), way, total=WARM_UP + num_steps):
                began = time.perf_counter()
                steps = collect()
                if i >= WARM_UP:
                    seconds.append(time.perf_counter() - began)
        median = float(np.median(seconds))
        rows.append({"way": way, "batch_ms_p50": round(1000 * median, 1), "env_steps_per_s": round(steps / median, 2)})
        console.print(f"{way:24s} {rows[-1]['env_steps_per_s']:8} env steps/s")
    write_bench(out, world=name, num_envs=num_envs, steps=num_steps, timing=rows)


def _arguments(name: str) -> dict[str, Any]:
    return {"task": TASK, "world": name, "max_episode_steps": -1}


def _actors(name: str, num_envs: int, count: int) -> RayVectorEnv:
    return RayVectorEnv(ENV, num_envs * count, num_actors=count, threads=1, world=name, max_episode_steps=-1)


@contextmanager
def _stepping(make: Callable[[], WorldVectorEnv]) -> Iterator[Batch]:
    """Step an environment as it is."""
    envs = make()
    envs.reset(seed=0)

    def step() -> int:
        envs.step(envs.action_space.sample())
        return envs.num_envs

    yield step
    envs.close()


def _wrapped(name: str, num_envs: int) -> Any:
    """Return our vector environment as TorchRL sees it, which resets rows itself."""
    torchrl = import_extra("torchrl.envs", extra="dev", needs="this measures TorchRL's collectors")
    return torchrl.GymWrapper(WorldVectorEnv(num_envs, autoreset_mode="Disabled", **_arguments(name)))


@contextmanager
def _collecting(kind: str, make: Any, frames: int, **options: Any) -> Iterator[Batch]:
    """Collect with one of TorchRL's collectors; a batch is one step of every env."""
    collectors = import_extra("torchrl.collectors", extra="dev", needs="this measures TorchRL's collectors")
    collector = getattr(collectors, kind)(make, frames_per_batch=frames, total_frames=ENDLESS, **options)
    batches = iter(collector)
    yield lambda: int(next(batches).numel())
    collector.shutdown()


@contextmanager
def _collecting_over_ray(make: list[Any], frames: int) -> Iterator[Batch]:
    distributed = import_extra(
        "torchrl.collectors.distributed", extra="dev", needs="this measures TorchRL's RayCollector"
    )
    leave = connect(LOCAL)
    collector = distributed.RayCollector(
        make,
        frames_per_batch=frames,
        total_frames=ENDLESS,
        sync=True,
        remote_configs={"num_cpus": 0.25, "num_gpus": 0, "memory": 2**28},
    )
    batches = iter(collector)
    yield lambda: int(next(batches).numel())
    collector.shutdown(shutdown_ray=False)
    leave()
