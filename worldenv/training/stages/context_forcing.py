"""Stage ``context_forcing``: a few-step student from a joint teacher with the same memory.

WorldPlay 3.4 and Algorithm 1. Histories are recorded (for comparison: self-rolled); segments after them are rolled out
by the student, with its own chunks in its memory. Teacher (real) and critic (fake) score a whole segment given C^tea.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...data.dataset import LatentDataset
from ...diffusion.dmd import dmd_gradient, dmd_loss, score_sigmas
from ...diffusion.schedule import add_noise, predict_x0
from ...engine.rollout import Prepared, generate_chunk
from ...models.dit import WorldDiT
from ...world.world import World
from ..loop.protocols import Critic
from ..loop.trainer import OptimConfig
from ..segments import JointStage, Segment
from ..symptoms import warn
from .denoise import DenoiseConfig


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


class ContextForcingStage(JointStage):
    """Distribution matching of self-rolled segments after true histories, all models with the same memory."""

    def __init__(
        self, world: World, config: DenoiseConfig, optim: OptimConfig, forcing: ContextForcingConfig, *,
        teacher: WorldDiT, data: LatentDataset, heldout: LatentDataset | None,
    ) -> None:  # fmt: skip
        super().__init__(world, config, optim, data=data, heldout=heldout)
        self.forcing, self.sampler = forcing, world.config.sampler
        if teacher.config != self.module.config:
            raise ValueError("the teacher's transformer has other sizes than the student's; train it from the same one")
        self.module.float()
        self.teacher = teacher.float().eval().requires_grad_(False)
        self.fake = deepcopy(self.teacher).train().requires_grad_(True)
        self.critic = Critic(self.fake, self.critic_loss, forcing.critic_updates, forcing.critic_lr)
        self.longest = forcing.max_history
        self.critic_error = math.nan  # before its first update

    def begin(self, step: int) -> None:
        """Let histories grow as training goes on."""
        self.longest = self.forcing.history(step)
        self.teacher.to(self.module.patch_embedding.weight.device)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Roll out, score under the teacher and the critic, return the distribution matching loss."""
        segment, x = self._draw_rollout(generator)
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
            segment, x = self._draw_rollout(generator)
        error = self._flow_error(self.fake, segment, x, generator)
        self.critic_error = float(error.detach())
        return error, {}

    def _draw_rollout(self, generator: torch.Generator) -> tuple[Segment, Tensor]:
        """Draw a batch of segments and generate them, (B, F, C, h, w)."""
        segment = self._after_history(generator)
        return segment, self.rollout(segment, generator, exits=self._draw_exits(generator))

    def _after_history(self, generator: torch.Generator, *, ahead: int = 1) -> Segment:
        """Draw segments with their histories: recorded, or made by the student from the start view on."""
        segment = self._segment(generator, longest=self.longest, ahead=ahead)
        if self.forcing.source == "self":
            for start in range(1, int(segment.first.max()), self.chunk):
                self._roll_history(segment, start, generator)
            whole = slice(0, self.num_latents)
            segment = replace(segment, rendered=self._render(segment, segment.joint, whole))
        return segment

    @torch.no_grad()
    def _roll_history(self, segment: Segment, start: int, generator: torch.Generator) -> None:
        """Replace the chunk of the histories that begins with latent ``start``, where it lies before the segment."""
        bank, part, zeros = segment.bank, slice(start, start + self.chunk), torch.zeros_like(segment.first)
        now = replace(segment, first=zeros + start, c2w=bank.c2w[:, part], labels=bank.labels[:, part])
        index = self._choose(bank.with_length(now.first), now.c2w, zeros, list(range(len(zeros))))
        whole = slice(0, self.chunk)
        prepared = self._prepare(self.module, now, index, whole, self._render(now, index, whole))
        noise = partial(self._noise, bank.latents[:, part].shape, generator)
        made = generate_chunk(prepared, noise(), self.sampler, renoise=noise)
        rows = segment.first > start
        bank.latents[rows, part] = made.to("cpu", torch.float32)[rows]
        if self.renderer is not None:
            self.renderer.show(bank, zeros + start + self.chunk - 1)

    def rollout(self, segment: Segment, generator: torch.Generator, *, exits: Sequence[int]) -> Tensor:
        """Generate a segment chunk by chunk, each against its memory of the history and of the chunks before it.

        Chunk i leaves the sampler at step ``exits[i]``. Gradients, where they are enabled, flow through that one
        evaluation: not through contexts, nor from one chunk to the next. Returns (B, F, C, h, w).
        """
        noise = partial(self._noise, segment.latents[:, : self.chunk].shape, generator)
        chunks: list[Tensor] = []
        for i, index in enumerate(segment.chosen):
            part = slice(i * self.chunk, (i + 1) * self.chunk)
            with torch.no_grad():
                prepared = self._prepare(self.module, segment, index, part, self._render(segment, index, part))
            chunks.append(generate_chunk(prepared, noise(), self.sampler, renoise=noise, exit_step=exits[i]))
            self._put(segment, part, chunks[-1])
        return torch.cat(chunks, 1)

    def _put(self, segment: Segment, part: slice, latents: Tensor) -> None:
        """Remember latents of the segment (its F axis), and what they show if memory is rendered."""
        segment.put(part, latents)
        if self.renderer is not None:
            self.renderer.show(segment.bank, segment.first + part.stop - 1)

    def _draw_exits(self, generator: torch.Generator) -> list[int]:
        count = self.config.num_chunks if self.forcing.exit_per_chunk else 1
        steps = torch.randint(self.sampler.num_steps, (count,), generator=generator)
        return steps.expand(self.config.num_chunks).tolist()

    def _scores(self, segment: Segment, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the x0 that teacher and critic predict of ``score_draws`` noised copies, (B K, F, C, h, w) each."""
        draws, device = self.forcing.score_draws, x.device
        sigmas = self._score_sigmas(len(x), generator).expand(-1, x.shape[1]).to(device)
        noisy = x.repeat_interleave(draws, 0)
        noisy = add_noise(noisy, self._noise(noisy.shape, generator), sigmas)
        velocities = (self._joint(dit, segment).velocity(noisy, 1000 * sigmas) for dit in (self.teacher, self.fake))
        x_real, x_fake = (predict_x0(noisy, velocity, sigmas) for velocity in velocities)
        return x_real, x_fake

    def _flow_error(self, dit: WorldDiT, segment: Segment, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a joint model's flow-matching error on segments, at the levels at which they are scored."""
        sigmas = self._score_sigmas(len(x), generator)
        x0 = x.repeat_interleave(self.forcing.score_draws, 0)
        return self._chunk_error(self._joint(dit, segment), x0, sigmas, generator).mean()

    def _joint(self, dit: WorldDiT, segment: Segment) -> Prepared:
        return self._prepare_joint(dit, segment).repeat(self.forcing.score_draws)

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
            "history": float(self.longest),
        }

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return along held-out paths under several memory policies; compare one segment with the teacher's.

        Says what of the failures of distribution matching shows in the student's segments.
        """
        figures = super().preview(folder, step)
        for name in ("teacher", "student"):
            make = self.finished if name == "student" else partial(self.generate_joint, self.teacher)
            show = partial(self._preview_segment, folder, step, make=make, ahead=self.ahead)
            figures |= show(name)
            early = show(f"{name}_early", history=self.config.num_chunks // 2)
            figures[f"length_db_{name}"] = early[f"psnr_{name}_early"] - figures[f"psnr_{name}"]
        for symptom in ("first_chunk_db", "length_db"):  # beside the teacher, for whom the same chunks are as hard
            figures[f"{symptom}_student"] -= figures[f"{symptom}_teacher"]
        warn(figures, "student")
        return figures

    @property
    def ahead(self) -> int:
        """How many chunks share a context when the student makes them."""
        return 1

    def finished(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Generate a segment as an environment would, all steps of it, (B, F, C, h, w)."""
        return self.rollout(segment, generator, exits=[self.sampler.num_steps - 1] * self.config.num_chunks)
