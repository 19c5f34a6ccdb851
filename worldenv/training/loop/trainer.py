"""The training loop: optimizer, EMA, schedule, logs, checkpoints; the same for every stage.

Everything random in step k follows from (seed, k), so a run that is stopped and resumed takes the same steps as one
that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...base.checkpoint import check_under, load_module, load_tensors, save_tensors, under
from ...base.config import difference, from_dict
from ...base.interrupts import Interrupted, finishing
from ...base.log import JsonlLog, Stopwatch, console
from ...base.rng import derive_seed
from ...models.block import Block
from .average import moving_average
from .learner import Learner, LossFn
from .optim import OptimConfig, learning_rate, make_optimizers, precision
from .parallel import all_cores, from_main
from .plots import plot_losses
from .progress import Header
from .protocols import CriticStage, PacedStage, Stage, TargetStage

T = TypeVar("T")


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors as they are now."""
    return {k: v.clone() for k, v in module.state_dict().items()}


class Trainer:
    """Runs one stage to its last step, from the start or from a checkpoint.

    With ``evaluate``, figures of what would be kept now, whose ``score`` says how good it is, the best is kept.
    """

    def __init__(
        self,
        stage: Stage,
        config: OptimConfig,
        folder: Path,
        *,
        resume: bool,
        run: Mapping[str, Any],
        evaluate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        if config.patience and evaluate is None:
            raise ValueError("optim.patience waits for a better evaluation, and there is none; set it to 0")
        self.stage, self.config, self.folder, self.run, self.evaluate = stage, config, folder, dict(run), evaluate
        self.accelerator = Accelerator(mixed_precision=precision(config.mixed_precision))
        self.learner = self._learner(stage.module, stage.loss)
        self.critic = self._learner(stage.critic.module, stage.critic.loss) if isinstance(stage, CriticStage) else None
        if evaluate is not None and not config.preview_every:
            raise ValueError("preview_every=0 leaves nothing to choose the best by; set it, or pass no evaluation")
        self.ema = moving_average(stage.module, decay=config.ema)
        self.origin = copied(self.ema.module) if config.blend != 1 else {}
        self.step, self.hours, self.skipped = 0, 0.0, 0
        self.best: dict[str, Tensor] = {}  # the average of the best evaluation
        self.best_step, self.best_score = 0, -math.inf
        self.checkpoint = folder / "checkpoint.safetensors"
        if resume and self.checkpoint.exists():
            self._load()
        elif self.checkpoint.exists():
            raise ValueError(f"{folder}: holds a run already; pass --resume to go on, or another --out")
        if isinstance(stage, TargetStage):
            stage.target = self.ema.module
        self.is_main = self.accelerator.is_main_process
        self.log = JsonlLog(folder / "log.jsonl", resume_step=self.step) if self.is_main else None

    def _learner(self, module: nn.Module, loss: LossFn) -> Learner:
        module.to(self.accelerator.device)
        for block in (part for part in module.modules() if isinstance(part, Block)):
            block.recompute = self.config.recompute
        return Learner(module, loss, make_optimizers(module, self.config), self.config.grad_clip)

    @property
    def kept_step(self) -> int:
        """The step whose average is left in the module: the best if there is an evaluation, else the last."""
        return self.best_step if self.best else self.step

    def train(self) -> None:
        """Train to the last step; on Ctrl-C or SIGTERM the step is finished and the state saved first."""
        watch, before = Stopwatch(), self.hours
        console.print(
            f"step {self.step} of {self.config.steps}, {self.accelerator.num_processes} x {self.accelerator.device}, "
            f"mixed precision: {self.accelerator.mixed_precision}, {self.folder}"
        )
        with finishing(told=lambda: self.is_main) as came:
            if self.step == 0 and self.log is not None:
                self._evaluate(self.log)
            while self.step < self.config.steps and not self._is_over():
                figures = self._update()
                self.step += 1
                self.hours = before + watch.seconds() / 3600
                if self.log is not None:
                    self._after_step(figures, self.log)
                if number := from_main(came(), self.accelerator.device):
                    self._save()
                    console.print(f"stopped at step {self.step}, which is kept")
                    raise Interrupted(number)
        self._save()
        self.stage.module.load_state_dict(self._blended(self.best or self.ema.module.state_dict()))
        if self.is_main:
            plot_losses(self.folder / "log.jsonl", self.folder / "loss.png")

    def _blended(self, average: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is kept of an average: so much of the way to it as ``blend`` says."""
        return {k: v.lerp(average[k], self.config.blend) for k, v in self.origin.items()} or average

    def _is_over(self) -> bool:
        """Tell whether evaluations have not improved for ``patience`` steps; all processes hear the main one."""
        if self.evaluate is None or not self.config.patience:
            return False
        return self.step - from_main(self.best_step, self.accelerator.device) >= self.config.patience

    def _update(self) -> dict[str, float]:
        rate, stage = learning_rate(self.step, self.config), self.stage
        figures: dict[str, float] = {}
        if isinstance(stage, PacedStage):
            stage.begin(self.step)
        if isinstance(stage, CriticStage) and self.critic is not None:
            turns = [
                self._take(self.critic, stage.critic.lr_scale * rate, "critic", i) for i in range(stage.critic.updates)
            ]
            figures = {
                f"critic_{k}": sum(turn[k] for turn in turns) / len(turns)
                for k in turns[0]
                if k not in ("lr", "skipped")
            }
        figures = self._take(self.learner, rate, "step") | figures
        self.ema.update_parameters(stage.module)
        return {k: v for k, v in figures.items() if k != "skipped"} | (
            {"skipped": self.skipped} if self.skipped else {}
        )

    def _take(self, learner: Learner, rate: float, name: str, *number: int) -> dict[str, float]:
        """Update a learner by this process's parts of the batch."""
        first, parts = self.accelerator.process_index * self.config.accumulate, []
        for part in range(first, first + self.config.accumulate):
            seed = derive_seed(self.config.seed, name, self.step, *number, *([part] if part else []))
            parts.append(torch.Generator().manual_seed(seed))
        figures = learner.update(parts, rate, self.accelerator, skip_above=self.config.skip_above)
        self.skipped += int(figures["skipped"])
        return figures

    def _after_step(self, figures: dict[str, float], log: JsonlLog) -> None:
        config, last = self.config, self.step == self.config.steps
        if self.step % config.log_every == 0 or last:
            log.write({"step": self.step, "hours": self.hours, **figures})
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            console.print(f"{self.step:6d}  {shown}  {self.hours * 60:.1f} min", highlight=False)
        if config.preview_every and (self.step % config.preview_every == 0 or last):
            held_out = self._with_average(lambda: self.stage.preview(self.folder, self.step))
            log.write({"step": self.step, **held_out})
            console.print("        held out  " + "  ".join(f"{k} {v:.4g}" for k, v in held_out.items()))
            self._evaluate(log)
            plot_losses(self.folder / "log.jsonl", self.folder / "loss.png")
        if self.step % config.save_every == 0:
            self._save()

    def _evaluate(self, log: JsonlLog) -> None:
        """Score the average, if the caller said how, and keep it if it is the best so far."""
        if self.evaluate is None:
            return
        figures = dict(self._with_average(self.evaluate))
        log.write({"step": self.step, **figures})
        shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        console.print(f"        {shown}  (best before {self.best_score:.4g}, step {self.best_step})", highlight=False)
        score = figures["score"]
        if not math.isfinite(score):
            raise ValueError(f"step {self.step}: the score is not a number; figures: {figures}")
        if not self.best or score > self.best_score:
            self.best_step, self.best_score = self.step, score
            self.best = copied(self.ema.module)

    def _with_average(self, act: Callable[[], T]) -> T:
        """Act while what would be kept is in the module."""
        module = self.stage.module
        present = copied(module)
        module.load_state_dict(self._blended(self.ema.module.state_dict()))
        module.eval()
        with torch.no_grad(), self.accelerator.autocast(), all_cores():
            result = act()
        module.train()
        module.load_state_dict(present)
        return result

    def _save(self) -> None:
        if not self.is_main:
            return
        tensors = self.learner.tensors()
        tensors |= {f"ema.{k}": v for k, v in self.ema.module.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        if self.critic is not None:
            tensors |= {f"critic.{k}": v for k, v in self.critic.tensors().items()}
        updates = int(self.ema.n_averaged) - 1  # it counts the weights that the average began with
        progress: dict[str, float] = {"step": self.step, "hours": self.hours, "ema_updates": updates}
        progress["skipped"] = self.skipped
        if self.best:
            progress |= {"best_step": self.best_step, "best_score": self.best_score}
        save_tensors(self.checkpoint, tensors, header={"run": self.run, "progress": progress})

    def _load(self) -> None:
        tensors, told = load_tensors(self.checkpoint)
        header = from_dict(Header, told, where=str(self.checkpoint))
        changed = difference(header.run, self.run)
        if changed is not None:
            raise ValueError(f"{self.checkpoint}: the run had another {changed!r}; resume with its own configuration")
        own = ["module.", "ema.", "best.", *(f"optimizer{n}." for n in range(len(self.learner.optimizers)))]
        own += [] if self.critic is None else ["critic."]
        check_under(tensors, *own, where=str(self.checkpoint))
        self.learner.load(tensors, where=str(self.checkpoint))
        if self.critic is not None:
            self.critic.load(under(tensors, "critic."), where=str(self.checkpoint))
        if best := under(tensors, "best."):
            load_module(self.ema.module, best, where=str(self.checkpoint))
            self.best = copied(self.ema.module)
        load_module(self.ema.module, under(tensors, "ema."), where=str(self.checkpoint))
        progress = header.progress
        self.step, self.hours, self.skipped = progress.step, progress.hours, progress.skipped
        self.ema.n_averaged.fill_(progress.ema_updates + 1)
        self.best_step, self.best_score = progress.best_step, progress.best_score
