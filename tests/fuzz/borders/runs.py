"""What runs go on from: checkpoints and logs of a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.fuzz.case import Case
from tests.fuzz.damage import broken_tensor, damaged, leaves, of_another_type, put, shown, without
from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.loop.trainer import Trainer

NO_LINES = ("{", "3", "[]", "null", '"x"', "\x00", '{"step": "x"}', '{"step": null}', "[" * 9000, "1" * 9000)
"""Lines that are no record of a log."""


class Fit:
    """Fits a matrix, which Muon takes, and what AdamW does."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 3)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch."""
        x = torch.randn(8, 3, generator=generator)
        return (self.module(x) - 3 * x).square().mean(), {}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return nothing worth to be shown."""
        return {"weight": 1.0}


def checkpoint(folder: Path) -> st.SearchStrategy[Case]:
    """A run of two steps that goes on, from what it left."""
    config = OptimConfig(steps=2, warmup=1, preview_every=2, mixed_precision="no")
    run = {"stage": "fit", "optim": {"lr": 0.1}}
    score = {"score": -1.0}
    Trainer(Fit(), config, folder / "run", resume=False, run=run, evaluate=lambda: score).train()
    tensors, header = load_tensors(folder / "run" / "checkpoint.safetensors")
    data = (folder / "run" / "checkpoint.safetensors").read_bytes()

    def case(what: str, accept: bool | None, file: str, made: bytes | tuple[dict[str, Tensor], Any]) -> Case:
        def act(scratch: Path) -> None:
            shutil.copytree(folder / "run", scratch, dirs_exist_ok=True)
            if isinstance(made, bytes):
                (scratch / file).write_bytes(made)
            else:
                save_tensors(scratch / file, made[0], header=made[1])
            Trainer(Fit(), replace(config, steps=3), scratch, resume=True, run=run, evaluate=lambda: score)

        return Case(f"{file}: {what}", accept, act, names=file if accept is False else "")

    def saved(what: str, accept: bool | None, made: bytes | tuple[dict[str, Tensor], Any]) -> Case:
        return case(what, accept, "checkpoint.safetensors", made)

    menu = [saved(what, accept, (made, header)) for what, made, accept in _tensors(tensors)]
    menu += [saved(what, accept, (tensors, made)) for what, made, accept in _headers(header)]
    for line in NO_LINES:
        menu.append(case(f"{line[:20]!r}", False, "log.jsonl", f"{line}\n".encode()))
    menu.append(case("no text", False, "log.jsonl", b"\xff\n"))
    return st.one_of(st.sampled_from(menu), st.sampled_from(menu), *damaged(data, saved))


def _tensors(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor], bool | None]]:
    yield "as it is", tensors, True
    for more in ("surprise", "critic.module.weight", "optimizer9.0.step", "best"):
        yield f"with {more}", {**tensors, more: torch.zeros(2)}, False
    for name, tensor in sorted(tensors.items()):
        rest = {key: value for key, value in tensors.items() if key != name}
        yield f"without {name}", rest, None if name.endswith("momentum_buffer") else False
        for what, broken in broken_tensor(name, tensor):
            yield what, {**tensors, name: broken}, False
    for name in ("optimizer0.x.step", "optimizer0.99.exp_avg", "optimizer0.0", "optimizer0..step"):
        yield f"with {name}", {**tensors, name: torch.zeros(())}, False


def _headers(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool | None]]:
    for key in ("run", "progress"):
        yield f"header without {key}", without(header, (key,)), False
        for other in (None, [], "x", 3, -1):
            yield f"header: {key} is {other!r}", put(header, (key,), other), False
    for path, value in leaves(header):
        if path[0] == "run":
            yield f"header: {shown(path)} is another", put(header, path, "another"), False
            continue
        needed = path[-1] in ("step", "hours", "ema_updates")
        yield f"header: without {shown(path)}", without(header, path), False if needed else None
        for other in (*of_another_type(value), None, 10**30, *(() if path[-1] == "best_score" else (-1,))):
            yield f"header: {shown(path)} is {other!r}", put(header, path, other), False
    yield "header: something more", {**header, "surprise": 1}, False
    yield "header: progress of something more", put(header, ("progress", "surprise"), 1), False
    yield (
        "header: hours beyond numbers",
        json.loads(json.dumps(header).replace('"hours": ', '"hours": 1e999, "x": ')),
        False,
    )
