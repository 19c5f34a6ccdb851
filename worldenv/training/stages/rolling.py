"""Stage ``rolling``: a student that denoises a window of chunks at increasing levels, one finished per evaluation.

WorldScape, "Causal distillation"; the rollouts are those of Rolling Forcing (arXiv 2509.25161), the scores and the
memory those of stage ``context_forcing``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...diffusion.sampler import roll_window
from ...dynamics.signals import Track
from ...engine.rollout import Prepared
from ...engine.window import hold_action
from ...models.dit import WorldDiT
from ..material import Material
from ..rollouts import ChunkRollouts
from ..segments import Segment
from .context_forcing import ContextForcingConfig, ContextForcingStage


@dataclass(frozen=True, kw_only=True)
class RollingConfig:
    """Rollouts of stage ``rolling``; the rest is in ``ContextForcingConfig``."""

    share: float = 0.5
    """Share of rollouts that roll a window; the others finish one chunk after the other."""
    held: float = 0.5
    """Share of those in which a chunk learns of its action only at the pass that is scored, or in front; before, the
    action in front is held, as in an environment. In the others every chunk knows its action from the beginning."""


class RollingRollouts:
    """Segments that a rolling window makes, or, for a share of them, one chunk after the other."""

    def __init__(self, chunks: ChunkRollouts, config: RollingConfig) -> None:
        self.chunks, self.config, self.segments, self.sampler = chunks, config, chunks.segments, chunks.sampler
        self.material, self.chunk = chunks.segments.material, chunks.chunk
        self.ahead = chunks.sampler.num_steps

    def draw(self, generator: torch.Generator) -> tuple[Segment, Tensor]:
        """Draw a batch of segments and generate them, (B, F, C, h, w)."""
        kind, knows = torch.rand(2, generator=generator).tolist()
        if kind >= self.config.share:
            return self.chunks.draw(generator)
        segment = self.chunks.after_history(generator, ahead=self.ahead)
        turn = int(torch.randint(self.sampler.num_steps, (1,), generator=generator))
        return segment, self.roll(segment, generator, turn=turn, held=knows < self.config.held)

    def finished(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Generate a segment with windows that know all actions; what leaves them in front, (B, F, C, h, w)."""
        last = self.material.config.num_chunks + self.sampler.num_steps - 2  # the window with the last chunk in front
        self.roll(segment, generator, turn=last % self.sampler.num_steps, held=False)
        index = segment.first[:, None] + torch.arange(self.segments.num_latents)
        return segment.bank.latents[torch.arange(len(index))[:, None], index]

    def roll(self, segment: Segment, generator: torch.Generator, *, turn: int, held: bool) -> Tensor:
        """Generate a segment with a rolling window; what windows turn, turn + L, ... predict of it, (B, F, C, h, w).

        These windows do not overlap and cover every chunk once, at mixed levels. They alone are scored and let
        gradients flow; they know every chunk's action. The others hold the front's if ``held``.
        """
        steps, count = self.sampler.num_steps, self.material.config.num_chunks
        x, scored = segment.latents[:, :0].to(self.material.device), list[Tensor]()
        for number in range(range(turn, count + steps - 1, steps)[-1] + 1):
            front, scores = max(0, number + 1 - steps), number % steps == turn
            with torch.no_grad():
                prepared = self._prepare_window(segment, front, held=held and not scores)
            if scores:
                torch.clear_autocast_cache()  # weights that were converted without gradients would be used again
            with torch.set_grad_enabled(scores and torch.is_grad_enabled()):
                x0, x = roll_window(prepared.velocity, x, self.sampler, lambda n: self._chunks(segment, n, generator))
            scored += [x0] if scores else []
            x = x.detach()
            if number + 1 >= steps:
                segment.put(slice(front * self.chunk, (front + 1) * self.chunk), x[:, : self.chunk])
                x = x[:, self.chunk :]
        return torch.cat(scored, 1)[:, : self.segments.num_latents]

    def _chunks(self, segment: Segment, num_chunks: int, generator: torch.Generator) -> Tensor:
        """Draw noise of so many chunks."""
        batch, _, *latent = segment.latents.shape
        return self.segments.noise(torch.Size([batch, num_chunks * self.chunk, *latent]), generator)

    def _prepare_window(self, segment: Segment, front: int, *, held: bool) -> Prepared:
        """Encode the context of the window that begins with chunk ``front``; behind the segment its action is held."""
        length = self.sampler.num_steps * self.chunk
        start, known = front * self.chunk, self.chunk if held else length
        before = segment.bank.track.at((torch.arange(len(segment.first))[:, None], segment.first[:, None] - 1))
        path = Track.join([before, segment.track]).part(slice(start, start + known + 1))
        track = hold_action(path, length + 1 - path.num_latents)
        window = replace(segment, first=segment.first + start, track=track)
        return self.segments.prepare(self.material.module, window, segment.chosen[front], slice(0, length))


def rolling_stage(
    material: Material, forcing: ContextForcingConfig, rolling: RollingConfig, *, teacher: WorldDiT
) -> ContextForcingStage:
    """Make the stage: distribution matching of segments that a rolling window made after true histories.

    Raises:
        ValueError: for a transformer that takes renders in.
    """
    if material.module.config.render_input:
        raise ValueError("[dit] render_input: a rolling window is not rendered; distil a transformer without it")
    return ContextForcingStage(material, forcing, teacher=teacher, roll=lambda chunks: RollingRollouts(chunks, rolling))
