"""The training loop: optimizer, EMA, schedule, logs, checkpoints; the same for every stage.

Everything random in step k follows from (seed, k), so a run that is stopped and resumed takes the same steps as one
that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..base.checkpoint import EMA, load_module, load_tensors, save_tensors
from ..base.log import JsonlLog, Stopwatch, console
from ..base.rng import derive_seed
from .parallel import all_cores, average_gradients
from .plots import plot_losses


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and loop."""

    steps: int = 1000
    """Optimizer steps."""
    batch: int = 16
    """Samples per step, over all processes."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon`` orthogonalises the updates of matrices (torch >= 2.9) and leaves the rest to AdamW."""
    lr: float = 1e-3
    """Peak learning rate."""
    lr_final: float = 1e-4
    """Learning rate at the end of the cosine."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    beta1: float = 0.9
    """First moment decay."""
    beta2: float = 0.99
    """Second moment decay."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.995
    """Decay of the weights' moving average, which is what is kept."""
    seed: int = 0
    """Seed of data order and noise."""
    log_every: int = 20
    """Steps between console lines."""
    save_every: int = 200
    """Steps between checkpoints."""
    preview_every: int = 500
    """Steps between previews (pictures, held-out figures)."""
    mixed_precision: str = "auto"
    """``bf16``, ``no`` or ``auto``: bf16 where the device computes in it."""


class Stage(Protocol):
    """What a stage gives to the loop."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch and return its loss and figures to log."""
        ...

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Write pictures of what the EMA weights do (they are loaded meanwhile); return held-out figures."""
        ...


def learning_rate(step: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr_final``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr_final + (config.lr - config.lr_final) * (1 + math.cos(math.pi * progress)) / 2


def precision(name: str) -> str:
    """Resolve ``auto``: bf16 on a GPU or on a CPU with bf16 instructions, else no mixed precision."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def make_optimizers(module: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Build AdamW, or Muon for matrices and AdamW for the rest; both follow one learning rate."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2 and config.optimizer == "muon"]
    taken = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in taken]
    betas, decay = (config.beta1, config.beta2), config.weight_decay
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=config.lr, betas=betas, weight_decay=decay)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


class Trainer:
    """Runs one stage to its last step, from the start or from a checkpoint."""

    def __init__(
        self, stage: Stage, config: OptimConfig, folder: Path, *, resume: bool, run: Mapping[str, Any]
    ) -> None:
        self.stage, self.config, self.folder, self.run = stage, config, folder, dict(run)
        self.accelerator = Accelerator(mixed_precision=precision(config.mixed_precision))
        self.optimizers = make_optimizers(stage.module, config)
        self.ema = EMA(stage.module, decay=config.ema)
        self.step, self.hours = 0, 0.0
        self.checkpoint = folder / "checkpoint.safetensors"
        if resume and self.checkpoint.exists():
            self._load()
        elif self.checkpoint.exists():
            raise ValueError(f"{folder}: holds a run already; pass --resume to go on, or another --out")
        stage.module.to(self.accelerator.device)
        self.is_main = self.accelerator.is_main_process
        self.log = JsonlLog(folder / "log.jsonl", resume_step=self.step) if self.is_main else None

    def train(self) -> None:
        """Train to the last step; on Ctrl-C the state is saved first."""
        watch, before = Stopwatch(), self.hours
        console.print(
            f"step {self.step} of {self.config.steps}, {self.accelerator.num_processes} x {self.accelerator.device}, "
            f"mixed precision: {self.accelerator.mixed_precision}, {self.folder}"
        )
        try:
            while self.step < self.config.steps:
                figures = self._update()
                self.step += 1
                self.hours = before + watch.seconds() / 3600
                if self.log is not None:
                    self._after_step(figures, self.log)
        except KeyboardInterrupt:
            self._save()
            console.print(f"stopped at step {self.step}; --resume goes on from here")
            raise
        self._save()
        self.ema.copy_to(self.stage.module)
        if self.is_main:
            plot_losses(self.folder / "log.jsonl", self.folder / "loss.png")

    def _update(self) -> dict[str, float]:
        config, rank = self.config, self.accelerator.process_index
        seed = derive_seed(config.seed, "step", self.step, *([rank] if rank else []))
        generator = torch.Generator().manual_seed(seed)
        rate = learning_rate(self.step, config)
        for group in (g for optimizer in self.optimizers for g in optimizer.param_groups):
            group["lr"] = rate
        with self.accelerator.autocast():
            loss, figures = self.stage.loss(generator)
        self.accelerator.backward(loss)
        if self.accelerator.num_processes > 1:
            average_gradients(self.stage.module)
        norm = self.accelerator.clip_grad_norm_(self.stage.module.parameters(), config.grad_clip)
        for optimizer in self.optimizers:
            if torch.isfinite(norm):
                optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.stage.module)
        return {"loss": float(loss.detach()), "lr": rate, "grad_norm": float(norm), **figures}

    def _after_step(self, figures: dict[str, float], log: JsonlLog) -> None:
        config, last = self.config, self.step == self.config.steps
        if self.step % config.log_every == 0 or last:
            log.write({"step": self.step, "hours": self.hours, **figures})
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            console.print(f"{self.step:6d}  {shown}  {self.hours * 60:.1f} min", highlight=False)
        if self.step % config.preview_every == 0 or last:
            held_out = self._preview()
            log.write({"step": self.step, **held_out})
            console.print("        held out  " + "  ".join(f"{k} {v:.4g}" for k, v in held_out.items()))
            plot_losses(self.folder / "log.jsonl", self.folder / "loss.png")
        if self.step % config.save_every == 0:
            self._save()

    def _preview(self) -> dict[str, float]:
        present = {k: v.detach().clone() for k, v in self.stage.module.state_dict().items()}
        self.ema.copy_to(self.stage.module)
        self.stage.module.eval()
        with torch.no_grad(), self.accelerator.autocast(), all_cores():
            figures = self.stage.preview(self.folder, self.step)
        self.stage.module.train()
        self.stage.module.load_state_dict(present)
        return figures

    def _save(self) -> None:
        if not self.is_main:
            return
        tensors = {f"module.{k}": v for k, v in self.stage.module.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.shadow.items()}
        for n, optimizer in enumerate(self.optimizers):
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{n}.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        progress = {"step": self.step, "hours": self.hours, "ema_updates": self.ema.num_updates}
        save_tensors(self.checkpoint, tensors, header={"run": self.run, "progress": progress})

    def _load(self) -> None:
        tensors, header = load_tensors(self.checkpoint)
        changed = [k for k, v in self.run.items() if header["run"].get(k) != v]
        if changed:
            raise ValueError(
                f"{self.checkpoint}: the run had another {changed[0]!r}; resume with its own configuration"
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        load_module(self.stage.module, part("module."), where=str(self.checkpoint))
        self.ema.shadow = part("ema.")
        for n, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimizer{n}.").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        progress = header["progress"]
        self.step, self.hours, self.ema.num_updates = progress["step"], progress["hours"], progress["ema_updates"]
