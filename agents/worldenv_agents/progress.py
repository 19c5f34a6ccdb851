"""What a training shows and keeps while it runs: progress bar, logs, and checkpoints that it goes on from."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger, make_output_format

from worldenv.base.checkpoint import (
    load_module,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    save_tensors,
    under,
)
from worldenv.base.config import check_numbers, difference, from_dict
from worldenv.base.log import JsonlLog, progress_bar

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

    def __post_init__(self) -> None:
        check_numbers(self, natural=("steps",))
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
    """Weights, optimizer and scale of rewards of a run in one file. The episodes under way are not in it: others
    begin.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, config

    def save(self, model: PPO) -> None:
        """Write the model as it is."""
        tensors = {f"network.{k}": v for k, v in model.policy.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(model.policy.optimizer).items()}
        header: dict[str, Any] = {"steps": model.num_timesteps, "config": dict(self.config)}
        scaled = model.get_vec_normalize_env()
        if scaled is not None:
            header["returns"] = {name: float(getattr(scaled.ret_rms, name)) for name in RUNNING}
        save_tensors(self.path, tensors, header=header)

    def load(self, model: PPO) -> None:
        """Take over weights, optimizer and the number of steps."""
        tensors, header = load_tensors(self.path)
        run = from_dict(Run, header, where=str(self.path))
        scaled = model.get_vec_normalize_env()
        if scaled is not None and run.returns is None:
            raise ValueError(f"{self.path}: says nothing of the returns that rewards are scaled by; copy it again")
        load_module(model.policy, under(tensors, "network."), where=str(self.path))
        load_optimizer(model.policy.optimizer, under(tensors, "optimizer."), where=str(self.path))
        model.num_timesteps = run.steps
        if scaled is not None and run.returns is not None:
            for name, value in run.returns.items():
                setattr(scaled.ret_rms, name, value)


class Progress(BaseCallback):
    """Moves a progress bar, writes one log line per rollout and a checkpoint after each update."""

    def __init__(self, total: int, log: JsonlLog | None, checkpoint: Checkpoint | None, *, show: bool) -> None:
        super().__init__()
        self.bar, self.log, self.checkpoint, self.total = progress_bar(), log, checkpoint, total
        self.task = self.bar.add_task("ppo", total=total)
        if show:
            self.bar.start()

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps:  # after an update; before the first one there is nothing to keep
            self.save()

    def _on_step(self) -> bool:
        self.bar.update(self.task, completed=min(self.num_timesteps, self.total))
        return True

    def _on_rollout_end(self) -> None:
        episodes, successes = self.model.ep_info_buffer, self.model.ep_success_buffer
        if not episodes or successes is None:
            return
        mean_return = float(np.mean([e["r"] for e in episodes]))
        success = float(np.mean(successes)) if successes else 0.0
        self.bar.update(self.task, description=f"ppo  return {mean_return:6.2f}  success {success:4.0%}")
        if self.log is not None:
            self.log.write({"step": self.num_timesteps, "return": mean_return, "success": success})

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.checkpoint is not None:
            assert isinstance(self.model, PPO)
            self.checkpoint.save(self.model)

    def close(self) -> None:
        """Leave the terminal and the log in order."""
        self.bar.stop()
        if self.log is not None:
            self.log.file.close()
