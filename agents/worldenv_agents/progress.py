"""What a training shows and keeps while it runs: progress bar, logs, and checkpoints that it goes on from."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger, make_output_format
from torch import nn
from torch.optim import Optimizer

from worldenv.base.checkpoint import (
    check_under,
    load_module,
    load_optimizer,
    load_tensors,
    not_finite,
    optimizer_tensors,
    save_tensors,
    under,
)
from worldenv.base.config import check_numbers, difference, from_dict, to_dict
from worldenv.base.lock import in_use
from worldenv.base.log import JsonlLog, progress_bar

from .policy import CHECKPOINT_FILE, LOG_FILE, LearnerConfig

FREE = ("steps", "device")
"""Settings that may be others when a run goes on."""
RUNNING = ("mean", "var", "count")
"""What is kept of returns so far, for rewards to be scaled by."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a checkpoint says of its run."""

    steps: int
    """Steps that were taken."""
    config: dict[str, Any]
    """The configuration."""
    returns: dict[str, float] | None = None
    """Returns so far, by ``RUNNING``, where rewards are scaled by them."""
    spread: float | None = None
    """Of the returns so far, where advantages are divided by it."""

    def __post_init__(self) -> None:
        check_numbers(self, natural=("steps",) if self.spread is None else ("steps", "spread"))
        told = self.returns
        if told is not None and (set(told) != set(RUNNING) or min(told["var"], told["count"]) < 0):
            raise ValueError(f"returns={told} must be {', '.join(RUNNING)}, the last two of which are 0 or more")


def sb3_logger(tensorboard: Path | None) -> Logger:
    """Return SB3's logger: silent (its default makes a folder of temporary files), or for TensorBoard in a folder.

    Raises:
        ImportError: if TensorBoard is not installed.
    """
    if tensorboard is None:
        return Logger(None, [])
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("tensorboard=True needs TensorBoard: pip install 'worldenv[tensorboard]'")
    writer: KVWriter = make_output_format("tensorboard", str(tensorboard))
    return Logger(str(tensorboard), [writer])


def steps_done(path: Path, config: Mapping[str, Any], *, resume: bool) -> int:
    """Return the steps that the run of a checkpoint has taken, 0 if there is none.

    Raises:
        ValueError: if there is one and ``resume`` is false, or it is of another configuration.
    """
    if not path.exists():
        return 0
    if not resume:
        raise ValueError(f"{path.parent}: holds a run already; pass --resume to go on, or another --out")
    run = from_dict(Run, load_tensors(path)[1], where=str(path))
    changed = difference(_fixed(run.config), _fixed(config))
    if changed is not None:
        raise ValueError(f"{path}: the run had another {changed!r}; resume with its own configuration")
    return run.steps


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in FREE}


class Checkpoint:
    """Weights, optimizer and a few figures of a run in one file. The episodes under way are not in it: others begin."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, config

    def save(self, steps: int, network: nn.Module, optimizer: Optimizer, **figures: Any) -> None:
        """Write how far a run is; ``figures`` are what JSON can hold."""
        tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(optimizer).items()}
        save_tensors(self.path, tensors, header={"steps": steps, "config": dict(self.config), **figures})

    def load(self, network: nn.Module, optimizer: Optimizer) -> Run:
        """Take over weights and optimizer; return what else is known of the run."""
        tensors, header = load_tensors(self.path)
        run = from_dict(Run, header, where=str(self.path))
        check_under(tensors, "network.", "optimizer.", where=str(self.path))
        load_module(network, under(tensors, "network."), where=str(self.path))
        load_optimizer(optimizer, under(tensors, "optimizer."), where=str(self.path))
        return run


class Report:
    """A progress bar, and one log line per rollout; before the first step neither is there."""

    def __init__(self, config: LearnerConfig, log: Path | None, *, done: int, show: bool) -> None:
        self.name, self.total, self.done, self.show = config.kind, config.steps, done, show
        self.path, self.bar = log, progress_bar()
        self.log: JsonlLog | None = None
        self.task = self.bar.add_task(self.name, total=self.total)

    def advance(self, steps: int, said: str | None = None) -> None:
        """Show how many steps are taken."""
        if self.show:
            self.bar.start()
        if self.log is None and self.path is not None:
            self.log = JsonlLog(self.path, resume_step=self.done)
        self.bar.update(self.task, completed=min(steps, self.total), description=said)

    def write(self, steps: int, mean_return: float, success: float, **figures: float) -> None:
        """Show and log what was earned lately."""
        self.advance(steps, f"{self.name}  return {mean_return:6.2f}  success {success:4.0%}")
        if self.log is not None:
            self.log.write({"step": steps, "return": mean_return, "success": success, **figures})

    def close(self) -> None:
        """Leave the terminal and the log in order."""
        self.bar.stop()
        if self.log is not None:
            self.log.file.close()


@contextmanager
def finite(network: nn.Module) -> Iterator[None]:
    """Say of a training that fails because its weights are no numbers any more that it does; what it logged stays.

    Raises:
        ValueError: instead of the library's, which tells of a distribution, over many lines.
    """
    failed: ValueError | None = None
    try:
        yield
    except ValueError as error:
        failed = error
    if broken := not_finite(network.state_dict()):
        raise ValueError(f"training has failed: {broken[0]} is not finite; pass a smaller --lr, or another --seed")
    if failed is not None:
        raise failed


@dataclass(frozen=True)
class Kept:
    """What a training writes while it runs, and what it goes on from."""

    report: Report
    logger: Logger
    """SB3's, for TensorBoard."""
    checkpoint: Checkpoint | None
    """None if nothing is to be kept."""
    done: int
    """Steps that the checkpoint has taken; 0 if there is none."""


@contextmanager
def kept_in(out: Path | None, config: LearnerConfig, *, resume: bool, tensorboard: bool, show: bool) -> Iterator[Kept]:
    """Open what a training writes to a folder that nobody else trains in meanwhile; None keeps nothing.

    Raises:
        ValueError: if the folder is in use, holds a run and ``resume`` is false, or a run of another configuration.
        ImportError: if TensorBoard is asked for and not installed.
    """
    with nullcontext() if out is None else in_use(out):
        logger = sb3_logger(out if tensorboard else None)
        checkpoint, done = None, 0
        if out is not None:
            asked, path = to_dict(config), out / CHECKPOINT_FILE
            checkpoint, done = Checkpoint(path, asked), steps_done(path, asked, resume=resume)
        report = Report(config, None if out is None else out / LOG_FILE, done=done, show=show)
        try:
            yield Kept(report, logger, checkpoint, done)
        finally:
            report.close()
            logger.close()


class Progress(BaseCallback):
    """Reports on PPO, and writes a checkpoint after each update."""

    def __init__(self, report: Report, checkpoint: Checkpoint | None) -> None:
        super().__init__()
        self.report, self.checkpoint = report, checkpoint

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps:  # after an update; before the first one there is nothing to keep
            self.save()

    def _on_step(self) -> bool:
        self.report.advance(self.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        episodes, successes = self.model.ep_info_buffer, self.model.ep_success_buffer
        if not episodes or successes is None:
            return
        success = float(np.mean(successes)) if successes else 0.0
        self.report.write(self.num_timesteps, float(np.mean([e["r"] for e in episodes])), success)

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.checkpoint is None:
            return
        assert isinstance(self.model, PPO)
        scaled, figures = self.model.get_vec_normalize_env(), {}
        if scaled is not None:
            figures["returns"] = {name: float(getattr(scaled.ret_rms, name)) for name in RUNNING}
        self.checkpoint.save(self.model.num_timesteps, self.model.policy, self.model.policy.optimizer, **figures)


def restore(model: PPO, checkpoint: Checkpoint) -> None:
    """Let PPO go on from a checkpoint: weights, optimizer, the number of steps and the scale of rewards."""
    scaled, run = model.get_vec_normalize_env(), checkpoint.load(model.policy, model.policy.optimizer)
    if scaled is not None and run.returns is None:
        raise ValueError(f"{checkpoint.path}: says nothing of the returns that rewards are scaled by; copy it again")
    model.num_timesteps = run.steps
    if scaled is not None and run.returns is not None:
        for name, value in run.returns.items():
            setattr(scaled.ret_rms, name, value)
