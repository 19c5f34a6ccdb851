"""What a session server costs: messages beside the same steps here, and many clients beside an engine of their rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.device import threads_sleep
from ..base.log import console, track
from ..dynamics.messages import Done, Outcome, Ping, Step
from ..engine.engine import Engine
from ..envs.core import EnvCore
from ..envs.link import Link
from ..envs.remote import RemoteEnv
from ..envs.vector_env import WorldVectorEnv
from .engine import WARM_UP, random_commands, write_bench

ENV = "worldenv/Revisit-v0"
OPTIONS: dict[str, Any] = {"action_mode": "keys", "max_episode_steps": -1}
AHEAD = [1, 0]


def bench_serve(name: str, out: Path, *, num_clients: int, num_steps: int, wait_ms: float) -> None:
    """Start a server of a world, time it beside what it serves, in turn, and write the medians as JSON."""
    others = os.getloadavg()[0]
    flags = ["--worlds", name, "--batch", str(num_clients), "--wait-ms", str(wait_ms)]
    with serving(flags) as (url, _):
        message = _message(name, url, num_steps)
        load = _load(name, url, num_clients, num_steps)
    write_bench(
        out,
        world=name,
        steps=num_steps,
        wait_ms=wait_ms,
        load_of_others=round(others, 1),
        threads_sleep=threads_sleep(),
        timing={"message": message, "load": load},
    )


def _message(name: str, url: str, num_steps: int) -> dict[str, float]:
    """Time steps of one client that shares with nobody, and the same steps without a server, in turn."""
    remote = RemoteEnv(url, ENV, batch=False, **OPTIONS)
    local = WorldVectorEnv(1, task="revisit", world=name, **OPTIONS)
    remote.reset(seed=0)
    local.reset(seed=0)
    ask = Step(id=0, session=remote.remote.session, action=AHEAD)
    here, there, around = [], [], []
    for i in track(range(WARM_UP + num_steps), "one client", total=WARM_UP + num_steps):
        alone, _ = _timed(lambda: local.step([AHEAD]))
        whole, outcome = _timed(lambda: remote.remote.link.ask(ask, Outcome))
        if i >= WARM_UP:
            here.append(alone)
            there.append(whole)
            around.append(whole - outcome.compute_ms)
    link = Link(url)
    pings = [_timed(lambda: link.ask(Ping(id=0), Done))[0] for _ in range(200)]
    link.close()
    remote.close()
    figures = {
        "local_ms_p50": np.median(here),
        "remote_ms_p50": np.median(there),
        "difference_ms_p50": np.median(np.subtract(there, here)),
        "around_step_ms_p50": np.median(around),
        "around_step_ms_p95": np.quantile(around, 0.95),
        "ping_ms_p50": np.median(pings),
        "ping_ms_p95": np.quantile(pings, 0.95),
    }
    told = {key: round(float(value), 2) for key, value in figures.items()}
    console.print(f"a step: {told['remote_ms_p50']} ms, of which {told['around_step_ms_p50']} ms are the server's")
    return told


def _load(name: str, url: str, num_clients: int, num_steps: int) -> dict[str, float]:
    """Let clients step at the same time, one session each; and one engine of as many rows, in turn."""
    clients = [RemoteEnv(url, ENV, **OPTIONS) for _ in range(num_clients)]
    core = WorldVectorEnv(num_clients, task="revisit", world=name, **OPTIONS)
    core.reset(seed=0)
    assert isinstance(core.core, EnvCore)
    engine = core.core.dynamics
    assert isinstance(engine, Engine)
    generator = torch.Generator().manual_seed(0)
    with ThreadPoolExecutor(num_clients) as threads:
        list(threads.map(lambda client: client.reset(seed=0), clients))
        before = ask_health(url)
        seconds: list[tuple[float, float]] = []
        for i in track(range(WARM_UP + num_steps), f"{num_clients} clients", total=WARM_UP + num_steps):
            commands = random_commands(engine, generator)
            alone, _ = _timed(lambda commands=commands: engine.step(commands))  # type: ignore[misc]
            served, _ = _timed(lambda: list(threads.map(lambda client: client.step(AHEAD), clients)))
            if i >= WARM_UP:
                seconds.append((alone, served))
        after = ask_health(url)
        list(threads.map(lambda client: client.close(), clients))
    alone, served = np.median(np.array(seconds), 0) / 1000
    told = {
        "clients": num_clients,
        "engine_env_steps_per_s": round(num_clients / alone, 2),
        "served_env_steps_per_s": round(num_clients / served, 2),
        "share_of_engine": round(float(np.median([a / s for a, s in seconds])), 3),
        "rows_per_call": round((after["rows"] - before["rows"]) / max(1, after["calls"] - before["calls"]), 1),
    }
    console.print(f"{num_clients} clients: {told['share_of_engine']:.0%} of an engine of {num_clients} rows")
    return told


@contextmanager
def serving(flags: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Serve in a process of its own, on a port that is free; yield the address, and the process's number."""
    command = [sys.executable, "-m", "worldenv.cli", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = [word.rstrip(";") for word in line.split() if word.startswith("ws://")]
            if not found:
                raise OSError(f"the server did not start: {line}{process.stderr.read()}")
            yield found[0], process.pid
        finally:
            process.terminate()


def ask_health(url: str) -> dict[str, Any]:
    """Return what a server says of itself."""
    with urllib.request.urlopen(f"{url.replace('ws://', 'http://')}/healthz", timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many milliseconds something takes, and what it returns."""
    start = time.perf_counter()
    result = do()
    return 1000 * (time.perf_counter() - start), result
