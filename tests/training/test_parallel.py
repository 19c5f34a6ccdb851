import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.test_stages import config_for, record
from worldenv.base.checkpoint import load_tensors
from worldenv.base.config import dump_toml, to_dict
from worldenv.base.log import JsonlLog
from worldenv.training.stages.registry import train
from worldenv.world.world import World

PROGRAM = """
import sys
from pathlib import Path

import torch
from torch import nn
from worldenv.training.loop.parallel import average_gradients, from_main, leave, process_state

state = process_state()
first, second = layers = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 3))
first.weight.grad = torch.full((1, 2), float(1 + 2 * state.process_index))
second.weight.grad = torch.tensor([[1.0], [2.0], [3.0]]) * state.process_index
average_gradients(layers)
assert first.bias.grad is None and second.bias.grad is None
assert first.weight.grad.tolist() == [[2.0, 2.0]], first.weight.grad
assert second.weight.grad.tolist() == [[0.5], [1.0], [1.5]], second.weight.grad
assert from_main(5 + state.process_index, torch.device("cpu")) == 5
(Path(sys.argv[1]) / f"rank{state.process_index}").write_text(str(state.num_processes))
leave()
"""


def test_gradients_are_averaged_over_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    alone = ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *alone, "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"rank{i}").read_text() for i in (0, 1)] == ["2", "2"]


def test_a_stage_trains_in_two_processes_and_resumes_in_one(tmp_path: Path) -> None:
    config, out = config_for(record(tmp_path / "train")), tmp_path / "vae"
    (tmp_path / "tiny.toml").write_text(dump_toml(to_dict(config)))
    command = ["-m", "worldenv.cli", "train", "vae", "--config", str(tmp_path / "tiny.toml"), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command, "--processes", "2"], capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stderr.count("step 0 of 3, 2 x cpu") == 1, "one process speaks for all"
    assert [line["step"] for line in JsonlLog.read(out / "log.jsonl") if "loss" in line] == [1, 2, 3]
    parts = replace(config, optim=replace(config.optim, accumulate=2, steps=3))
    train("vae", parts, tmp_path / "alone")  # the same batches, in one process
    train("vae", replace(parts, optim=replace(parts.optim, steps=5)), out, resume=True)
    train("vae", replace(parts, optim=replace(parts.optim, steps=5)), tmp_path / "alone", resume=True)
    losses = [
        [line["loss"] for line in JsonlLog.read(folder / "log.jsonl") if "loss" in line]
        for folder in (out, tmp_path / "alone")
    ]
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert World.load(out).config.provenance[0].steps == 5


def test_ctrl_c_saves_what_two_processes_have_done(tmp_path: Path) -> None:
    """A terminal sends it to all processes, and the launcher passes it on: they hear it twice."""
    config, out = config_for(record(tmp_path / "train")), tmp_path / "vae"
    endless = replace(config, optim=replace(config.optim, steps=100_000, save_every=100_000, preview_every=0))
    (tmp_path / "tiny.toml").write_text(dump_toml(to_dict(endless)))
    command = ["-m", "worldenv.cli", "train", "vae", "--config", str(tmp_path / "tiny.toml"), "--out", str(out)]
    running = subprocess.Popen(
        [sys.executable, *command, "--processes", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        log = out / "log.jsonl"
        for _ in range(1200):
            if log.exists() and len(JsonlLog.read(log)) >= 2:
                break
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode != 0
    assert said.count("Ctrl-C: finishing this step, then saving") == 1, said[-3000:]
    step = load_tensors(out / "checkpoint.safetensors")[1]["progress"]["step"]
    assert step == JsonlLog.read(log)[-1]["step"] >= 2
    train("vae", replace(endless, optim=replace(endless.optim, steps=step + 1)), out, resume=True)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        num_processes, is_main_process = 3, True

    monkeypatch.setattr("worldenv.training.stages.run.process_state", Three)
    with pytest.raises(ValueError, match="batch=2 does not divide among 3 processes"):
        train("vae", config_for(record(tmp_path / "train")), tmp_path / "vae")
