"""Stage ``context_forcing``: a few-step student from a joint teacher with the same memory.

WorldPlay 3.4 and Algorithm 1. Histories are recorded (for comparison: self-rolled); segments after them are rolled out
by the student, with its own chunks in its memory. Teacher (real) and critic (fake) score a whole segment given C^tea.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...diffusion.dmd import dmd_gradient, dmd_loss, score_sigmas
from ...diffusion.schedule import add_noise, predict_x0
from ...engine.rollout import Prepared
from ...models.dit import WorldDiT
from ..chunks import chunk_error, preview_policies
from ..loop.protocols import Critic
from ..material import Material
from ..rollouts import ChunkRollouts, Rollouts
from ..segments import Segment, Segments
from ..symptoms import warn


@dataclass(frozen=True, kw_only=True)
class ContextForcingConfig:
    """Self-rollout and score matching of stage ``context_forcing``."""

    critic_updates: int = 5
    """Updates of the critic before each one of the student."""
    critic_lr: float = 1.0
    """The critic's learning rate in units of the student's (WorldPlay has 0.2; small critics lag behind with it)."""
    exit_per_chunk: bool = True
    """Whether every chunk of a rollout leaves the sampler at a step of its own, as in Algorithm 1, or all at one."""
    score_draws: int = 2
    """Noise draws per rollout at which it is scored."""
    score_shift: float = 2.0
    """Shift of the levels at which it is scored."""
    score_bounds: tuple[float, float] = (0.02, 0.98)
    """Smallest and largest of these levels."""
    max_history: int = 12
    """Chunks of history, m of Algorithm 1, at most."""
    history_steps: int = 0
    """Steps in which m rises to it, from 0."""
    source: Literal["data", "self"] = "data"
    """Whether histories are recorded, or what the student makes after the start view (WorldPlay's figure 8b)."""

    def __post_init__(self) -> None:
        low, high = self.score_bounds
        if not 0 < low < high < 1:
            raise ValueError(f"score_bounds={self.score_bounds} must lie between 0 and 1, the smaller first")
        for name in ("critic_updates", "score_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    def history(self, step: int) -> int:
        """Return m at a step."""
        share = min(1.0, step / self.history_steps) if self.history_steps else 1.0
        return round(share * self.max_history)


class ContextForcingStage:
    """Distribution matching of self-rolled segments after true histories, all models with the same memory."""

    def __init__(
        self,
        material: Material,
        forcing: ContextForcingConfig,
        *,
        teacher: WorldDiT,
        roll: Callable[[ChunkRollouts], Rollouts] = lambda chunks: chunks,
    ) -> None:
        self.material, self.module = material, material.module
        self.segments, self.forcing = Segments(material), forcing
        self.chunkwise = ChunkRollouts(self.segments, exit_per_chunk=forcing.exit_per_chunk, source=forcing.source)
        self.rollouts = roll(self.chunkwise)
        if teacher.config != self.module.config:
            raise ValueError("the teacher's transformer has other sizes than the student's; train it from the same one")
        self.module.float()
        self.teacher = teacher.float().eval().requires_grad_(False)
        self.fake = deepcopy(self.teacher).train().requires_grad_(True)
        self.critic = Critic(self.fake, self.critic_loss, forcing.critic_updates, forcing.critic_lr)
        self.chunkwise.longest = forcing.max_history
        self.critic_error = math.nan  # before its first update

    def begin(self, step: int) -> None:
        """Let histories grow as training goes on."""
        self.chunkwise.longest = self.forcing.history(step)
        self.teacher.to(self.material.device)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Roll out, score under the teacher and the critic, return the distribution matching loss."""
        segment, x = self.rollouts.draw(generator)
        with torch.no_grad():
            x_real, x_fake = self._scores(segment, x, generator)
            draws = self.forcing.score_draws
            gradient = dmd_gradient(x.repeat_interleave(draws, 0), x_real, x_fake)
            gradient = gradient.unflatten(0, (-1, draws)).mean(1)
            figures = self._gates(segment, x, gradient, generator)
        return dmd_loss(x, gradient), figures

    def critic_loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow matching of the critic on what the student makes of other segments."""
        with torch.no_grad():
            segment, x = self.rollouts.draw(generator)
        error = self._flow_error(self.fake, segment, x, generator)
        self.critic_error = float(error.detach())
        return error, {}

    def _scores(self, segment: Segment, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the x0 that teacher and critic predict of ``score_draws`` noised copies, (B K, F, C, h, w) each."""
        draws, device = self.forcing.score_draws, x.device
        sigmas = self._score_sigmas(len(x), generator).expand(-1, x.shape[1]).to(device)
        noisy = x.repeat_interleave(draws, 0)
        noisy = add_noise(noisy, self.segments.noise(noisy.shape, generator), sigmas)
        velocities = (self._joint(dit, segment).velocity(noisy, 1000 * sigmas) for dit in (self.teacher, self.fake))
        x_real, x_fake = (predict_x0(noisy, velocity, sigmas) for velocity in velocities)
        return x_real, x_fake

    def _flow_error(self, dit: WorldDiT, segment: Segment, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a joint model's flow-matching error on segments, at the levels at which they are scored."""
        sigmas = self._score_sigmas(len(x), generator)
        x0 = x.repeat_interleave(self.forcing.score_draws, 0)
        return chunk_error(self._joint(dit, segment), x0, sigmas, generator).mean()

    def _joint(self, dit: WorldDiT, segment: Segment) -> Prepared:
        return self.segments.prepare_joint(dit, segment).repeat(self.forcing.score_draws)

    def _score_sigmas(self, batch: int, generator: torch.Generator) -> Tensor:
        config = self.forcing
        return score_sigmas(
            batch * config.score_draws, shift=config.score_shift, bounds=config.score_bounds, generator=generator
        )

    def _gates(self, segment: Segment, x: Tensor, gradient: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Measure what the losses do not tell.

        ``teacher_loss`` is the teacher's error on the recorded segments; ``critic_lag`` the critic's last one on
        generated segments in units of it, which should stay near 1. ``contrast`` and ``motion`` compare generated with
        recorded latents: what leaves the sampler early is blurred, so that they stay below 1 (previews show what has
        taken all steps).
        """
        truth = segment.latents.to(x.device)
        teacher_loss = float(self._flow_error(self.teacher, segment, truth, generator))
        return {
            "gradient": float(gradient.abs().mean()),
            "teacher_loss": teacher_loss,
            "critic_lag": self.critic_error / teacher_loss,
            "contrast": float(x.std((1, 2, 3, 4)).mean() / truth.std((1, 2, 3, 4)).mean()),
            "motion": float(x.diff(dim=1).abs().mean() / truth.diff(dim=1).abs().mean()),
            "history": float(self.chunkwise.longest or 0),
        }

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return along held-out paths under several memory policies; compare one segment with the teacher's.

        Says what of the failures of distribution matching shows in the student's segments.
        """
        figures = preview_policies(self.material, folder, step)
        for name in ("teacher", "student"):
            make = self.rollouts.finished if name == "student" else partial(self.segments.generate_joint, self.teacher)
            show = partial(self.segments.preview, folder, step, make=make, ahead=self.rollouts.ahead)
            figures |= show(name)
            early = show(f"{name}_early", history=self.material.config.num_chunks // 2)
            figures[f"length_db_{name}"] = early[f"psnr_{name}_early"] - figures[f"psnr_{name}"]
        for symptom in ("first_chunk_db", "length_db"):  # beside the teacher, for whom the same chunks are as hard
            figures[f"{symptom}_student"] -= figures[f"{symptom}_teacher"]
        warn(figures, "student")
        return figures
