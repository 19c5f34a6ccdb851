"""Stage ``consistency_distill``: a few-step model from the autoregressive model's own ODE, on recorded histories.

The model before is the teacher: it takes one Euler step between neighbouring noise levels, and the student must predict
the same x0 before that step as its moving average predicts after it. Context forcing may start from the result, and it
is a usable few-step world by itself.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...base.rng import normal
from ...diffusion.schedule import add_noise, inference_sigmas, predict_x0
from ..chunks import Chunks, preview_policies
from ..material import Material


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """Discretisation of stage ``consistency_distill``."""

    num_levels: int = 48
    """Euler steps from noise to data, under the sampler's shift; a multiple of the sampler's steps."""


class ConsistencyStage:
    """Causal consistency distillation with clean, recorded contexts."""

    def __init__(self, material: Material, consistency: ConsistencyConfig) -> None:
        self.material, self.module, self.chunks = material, material.module, Chunks(material)
        sampler, num_levels = material.world.config.sampler, consistency.num_levels
        if num_levels % sampler.num_steps:
            near = sampler.num_steps * (num_levels // sampler.num_steps + 1)
            raise ValueError(
                f"consistency.num_levels={num_levels} is not a multiple of sampler.num_steps={sampler.num_steps}, so "
                f"the world's levels are not among them; try {near}"
            )
        self.levels = inference_sigmas(replace(sampler, num_steps=num_levels)).float()
        self.teacher = deepcopy(self.module.float()).eval().requires_grad_(False)
        self.target = self.teacher  # where the average begins

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Predict x0 as the average does one Euler step of the teacher nearer to the data."""
        device, draws, chunks = self.material.device, self.material.config.draws, self.chunks
        self.teacher.to(device)
        bank, target, renders = chunks.targets(generator)
        rendered = self.material.drawn(renders, generator)
        context = chunks.context(bank, target, generator)
        x0 = target.latents.repeat_interleave(draws, 0)
        index = torch.randint(len(self.levels) - 1, (len(x0), 1), generator=generator).expand(-1, self.material.chunk)
        now, after = self.levels[index].to(device), self.levels[index + 1].to(device)
        x = add_noise(x0.to(device), normal(x0.shape, generator, device), now)
        with torch.no_grad():
            slope = chunks.encode(self.teacher, context, target, rendered).velocity(x, 1000 * now)
            nearer = x + (after - now)[..., None, None, None] * slope
            goal = predict_x0(
                nearer, chunks.encode(self.target, context, target, rendered).velocity(nearer, 1000 * after), after
            )
        made = predict_x0(x, chunks.encode(self.module, context, target, rendered).velocity(x, 1000 * now), now)
        weight = 1 if target.weight is None else target.weight.repeat_interleave(draws, 0).to(device)
        return (weight * (made - goal).square()).mean(), {
            "error": float((made.detach() - x0.to(device)).square().mean())
        }

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under several memory policies."""
        return preview_policies(self.material, folder, step)
