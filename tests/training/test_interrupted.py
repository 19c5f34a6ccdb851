"""Runs that are stopped by Ctrl-C or killed by SIGKILL, anywhere, and go on as if they had not been."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_stages import config_of, losses
from worldenv.base.checkpoint import load_tensors
from worldenv.base.log import JsonlLog
from worldenv.training.loop.trainer import Trainer
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import STAGES, train
from worldenv.world.files import find_world
from worldenv.world.world import World

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "torch._dynamo", "matplotlib.pyplot"])  # what training imports as it goes


def train_until(what: str, count: int, stage: str, config: TrainConfig, out: Path) -> None:
    """Train, and be killed half way through writing a file of this name, or a ``line`` of the log, the n-th time."""
    torch.set_num_threads(1)
    replace, write = os.replace, JsonlLog.write

    def maybe_die(written: str, file: str | Path, size: int) -> None:
        nonlocal count
        count -= written == what
        if not count:
            os.truncate(file, size)
            os.kill(os.getpid(), signal.SIGKILL)

    def replacing(source: Path, target: Path) -> None:
        maybe_die(target.name, source, source.stat().st_size // 2)
        replace(source, target)

    def writing(log: JsonlLog, record: Mapping[str, Any]) -> None:
        write(log, record)
        maybe_die("line", log.file.name, os.path.getsize(log.file.name) - 9)

    os.replace, JsonlLog.write = replacing, writing  # type: ignore[assignment, method-assign]
    train(stage, config, out, resume=True)


def start(*arguments: object) -> ForkServerProcess:
    """Begin ``train_until`` in a process of its own."""
    process = PROCESSES.Process(target=train_until, args=arguments)
    process.start()
    return process


def saved_step(folder: Path) -> int:
    path = folder / "checkpoint.safetensors"
    return load_tensors(path)[1]["progress"]["step"] if path.exists() else 0


def check_equal(a: Path, b: Path) -> None:
    """Two runs took the same steps to the same state and the same world, to the last bit."""
    assert losses(a) == losses(b)
    states = [load_tensors(folder / "checkpoint.safetensors")[0] for folder in (a, b)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert World.load(a).sha256 == World.load(b).sha256


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_stopped_by_ctrl_c_loses_nothing(
    chain: dict[str, Path], recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    config = config_of(stage, recording, chain, steps=4, preview_every=0)
    train(stage, config, tmp_path / "whole")
    update = Trainer._update

    def interrupted(self: Trainer) -> dict[str, float]:
        if self.step == 1:
            for _ in range(2):  # as a launcher's processes hear it; the step goes on to its end
                signal.raise_signal(signal.SIGINT)
        return update(self)

    monkeypatch.setattr(Trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(stage, config, tmp_path / "parts")
    monkeypatch.undo()
    assert saved_step(tmp_path / "parts") == 2
    train(stage, config, tmp_path / "parts", resume=True)
    check_equal(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_loses_only_the_steps_since_its_checkpoint(
    chain: dict[str, Path], recording: Path, tmp_path: Path, stage: str
) -> None:
    """Killed while it saves step 4, while it logs step 4, and while it writes the world."""
    config, parts = config_of(stage, recording, chain, steps=4, save_every=2, preview_every=0), tmp_path / "parts"
    train(stage, config, tmp_path / "whole")
    for what, count, kept in (("checkpoint.safetensors", 2, 2), ("line", 2, 2), ("world.toml", 1, 4)):
        process = start(what, count, stage, config, parts)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, what
        assert saved_step(parts) == kept
        with pytest.raises(ValueError, match=r"no world\.toml"):
            find_world(parts)
    train(stage, config, parts, resume=True)
    check_equal(tmp_path / "whole", parts)


def test_a_run_may_be_killed_at_any_moment(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    stage, parts = "context_forcing", tmp_path / "parts"
    endless: dict[str, Any] = {"save_every": 3, "preview_every": 0, "lr_final": 1e-3}
    config = config_of(stage, recording, chain, steps=100_000, **endless)
    for _ in range(3):
        before, deadline = saved_step(parts), time.monotonic() + 120
        process = start("", 1, stage, config, parts)
        while saved_step(parts) == before:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert 0 <= len(losses(parts)) - saved_step(parts) <= 3
    config = config_of(stage, recording, chain, steps=saved_step(parts) + 2, **endless)
    train(stage, config, parts, resume=True)
    train(stage, config, tmp_path / "whole")
    check_equal(tmp_path / "whole", parts)
