"""Two training processes are one: the same losses in every stage, and nothing lost but steps when one is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_interrupted import saved_step
from tests.training.test_stages import config_of, losses
from worldenv.training.loop import learner, trainer
from worldenv.training.loop.parallel import leave
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import STAGES, train

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "torch._dynamo", "matplotlib.pyplot"])
Run = tuple[str, TrainConfig, Path]
Death = tuple[int, str, int]
"""Which process is killed, before what, and how often it has done that before."""


def in_two(runs: Sequence[Run], death: Death | None = None) -> list[int | None]:
    """Train in two processes, as a launcher starts them; return what they ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [PROCESSES.Process(target=take_part, args=(rank, port, runs, death)) for rank in (0, 1)]
    for process in both:
        process.start()
    try:
        return [joined(process) for process in both]
    finally:
        for process in both:
            process.kill()


def joined(process: ForkServerProcess) -> int | None:
    process.join(timeout=1200)
    return process.exitcode


def take_part(rank: int, port: int, runs: Sequence[Run], death: Death | None) -> None:
    """Be one of two processes."""
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in told.items()}
    if death is not None and death[0] == rank:
        kill_before(*death[1:])
    for stage, config, out in runs:
        train(stage, config, out, resume=True)
    leave()


def kill_before(what: str, count: int) -> None:
    """Let this process be killed before it does something for the n-th time."""

    def doomed(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count -= 1
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return acting

    where: dict[str, Any] = {"step": trainer.Trainer, "gradients": learner, "save": trainer, "log": trainer.JsonlLog}
    name = {"step": "_update", "gradients": "average_gradients", "save": "save_tensors", "log": "write"}[what]
    setattr(where[what], name, doomed(getattr(where[what], name)))


def in_parts(config: TrainConfig) -> TrainConfig:
    """Return what takes the shares of two processes in one, one after another."""
    return replace(config, optim=replace(config.optim, accumulate=2))


def apart(stages: Sequence[str], steps: int, recording: Path, chain: dict[str, Path], folder: Path) -> dict[str, float]:
    """Train stages in two processes and in one; return how far apart their losses are, relative to those above 1."""
    runs = [
        (stage, config_of(stage, recording, chain, steps=steps, preview_every=0), folder / stage) for stage in stages
    ]
    assert in_two(runs) == [0, 0]
    far = {}
    for stage, config, out in runs:
        train(stage, in_parts(config), folder / "alone" / stage)
        found, wanted = losses(out), losses(folder / "alone" / stage)
        assert len(found) == len(wanted) == steps
        far[stage] = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, wanted, strict=True))
    print({stage: f"{value:.1e}" for stage, value in far.items()})
    return far


def test_two_processes_train_as_one_does(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    far = apart(["memory", "context_forcing"], 3, recording, chain, tmp_path)
    assert max(far.values()) < 1e-4, far


@pytest.mark.slow
def test_two_processes_train_every_stage_as_one_does(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    far = apart(list(STAGES), 20, recording, chain, tmp_path)
    assert max(far.values()) < 1e-4, far


DEATHS: list[Death] = [
    (1, "gradients", 7),
    (0, "save", 1),
    (0, "step", 4),
    (1, "step", 0),
    (1, "step", 5),
    (0, "gradients", 2),
    (1, "gradients", 10),
    (0, "log", 3),
    (0, "log", 8),
    (0, "save", 2),
]


@pytest.fixture(scope="module")
def whole(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, list[float]]:
    """A run that nobody interrupts, and its losses."""
    config = config_of("vae", recording, {}, steps=12, save_every=4, preview_every=0)
    out = tmp_path_factory.mktemp("processes") / "whole"
    train("vae", in_parts(config), out)
    return config, losses(out)


@pytest.mark.parametrize(
    "death", [DEATHS[0], *(pytest.param(death, marks=pytest.mark.slow) for death in DEATHS[1:])], ids=str
)
def test_a_run_goes_on_when_one_of_two_processes_is_killed(
    death: Death, whole: tuple[TrainConfig, list[float]], tmp_path: Path
) -> None:
    (config, wanted), two, one = whole, tmp_path / "two", tmp_path / "one"
    ended = in_two([("vae", config, two)], death)
    assert ended[death[0]] == -signal.SIGKILL
    assert ended[1 - death[0]] not in (0, None), "the other one ends, and waits for nobody"
    kept = saved_step(two)
    done = len(losses(two)) if (two / "log.jsonl").exists() else 0
    assert kept in (0, 4, 8)
    assert done - kept <= 4, "steps since the last checkpoint"
    if two.exists():
        shutil.copytree(two, one)
    assert in_two([("vae", config, two)]) == [0, 0]
    train("vae", in_parts(config), one, resume=True)
    for resumed in (two, one):
        assert losses(resumed) == pytest.approx(wanted, rel=1e-4)
