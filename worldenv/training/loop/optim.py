"""Optimizers and how they are stepped: what is the same for every stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ...base.device import default_dtype, resolve_device


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and loop."""

    steps: int = 1000
    """Optimizer steps."""
    batch: int = 16
    """Samples per step, over all processes."""
    accumulate: int = 1
    """Parts that a process takes its share of the batch in, one after another, where all of it does not fit. What is
    drawn depends on the part: twice as many parts in half as many processes are the same training."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon`` orthogonalises the updates of matrices (torch >= 2.9) and leaves the rest to AdamW."""
    lr: float = 1e-3
    """Peak learning rate."""
    input_lr: float = 3.0
    """Learning rate of inputs that the transformer got later (``FURTHER``), in units of the others'; AdamW's."""
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
    recompute: bool = False
    """Whether the transformer's feed-forward networks, which hold most of what a backward pass needs, are computed anew
    in it instead of kept: less memory, a little slower, the same gradients."""
    skip_above: float = 0.0
    """Gradient norm beyond which a step is not taken, only counted (``skipped`` in the log); 0 skips none but those
    whose gradient is not finite."""
    ema: float = 0.995
    """Decay of the weights' moving average, which is what is kept."""
    blend: float = 1.0
    """Where what is kept lies on the line from the weights that training began with, 0, to that average, 1: how much of
    a distillation a world takes (WiSE-FT, arXiv 2109.01903)."""
    seed: int = 0
    """Seed of data order and noise."""
    log_every: int = 20
    """Steps between console lines."""
    save_every: int = 200
    """Steps between checkpoints."""
    preview_every: int = 500
    """Steps between previews (pictures, held-out figures) and evaluations; 0 is none."""
    patience: int = 0
    """Steps without a better evaluation after which training ends with the best; 0 does not evaluate."""
    mixed_precision: Literal["auto", "bf16", "no"] = "auto"
    """``bf16``, ``no`` or ``auto``: bf16 where the device computes in it."""


FURTHER = ("render_embedding.", "grasp_embedder.", "to_out_grasp.")
"""Inputs for rendered memory and for grasps, and what attention from there writes, by their weights' names: at the
rate of all others they stay near zero."""


def learning_rate(step: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr_final``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr_final + (config.lr - config.lr_final) * (1 + math.cos(math.pi * progress)) / 2


def precision(name: str) -> str:
    """Resolve ``auto``: bf16 where the device computes in it, else no mixed precision."""
    if name != "auto":
        return name
    return "bf16" if default_dtype(resolve_device("auto")) == torch.bfloat16 else "no"


def make_optimizers(module: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Build AdamW, or Muon for matrices and AdamW for the rest; both follow one learning rate."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inputs = [p for name, p in named if any(part in name for part in FURTHER)]
    parameters = [p for name, p in named if not any(part in name for part in FURTHER)]
    matrices = [p for p in parameters if p.ndim == 2 and config.optimizer == "muon"]
    taken = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in taken]
    betas, decay = (config.beta1, config.beta2), config.weight_decay
    groups: list[dict[str, Any]] = [{"params": others, "scale": 1.0}, {"params": inputs, "scale": config.input_lr}]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=betas, weight_decay=decay)
    ]
    if matrices:
        from .muon import Muon  # torch >= 2.9

        optimizers.append(Muon(matrices, lr=config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers
