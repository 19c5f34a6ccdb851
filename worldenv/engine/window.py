"""The rolling window of B episodes: chunks on their way from noise behind the newest one (WorldScape).

L chunks at L increasing levels see each other both ways and read the context, which only ever advances by finished
chunks. Every pass finishes the front one. The others are denoised before the user's action for them is known: as if the
newest one went on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..diffusion.sampler import roll_window
from ..diffusion.schedule import SamplerConfig
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from ..geometry.pose import chain, relative
from ..memory.bank import MemoryBank
from .rollout import Prepared

TOLERANCE = 1e-6
"""Metres, and entries of rotations, within which poses are the assumed ones."""
Draw = Callable[[Tensor, int], Tensor]
"""Draws so many chunks of noise for the masked rows (B,), zeros elsewhere; (B, chunks F, C, h, w)."""


def hold_action(
    track: Track,  # each (B, 1 + F, ...), F >= 1, the latent before them first
    num_latents: int,
) -> Track:
    """Let what is commanded of the last latent go on: the track's F latents and as many more, a camera in motion."""

    def held(part: Tensor) -> Tensor:
        return torch.cat([part[:, 1:], part[:, -1:].expand(-1, num_latents, *part.shape[2:])], 1)

    longer = track.map(held)
    if "c2w" in track:
        path = track["c2w"]
        motion = relative(path[:, -2], path[:, -1])[:, None].expand(-1, num_latents, -1, -1)
        longer["c2w"] = torch.cat([path[:, 1:], chain(path[:, -1], motion)[:, 1:]], 1)
    return longer


@dataclass
class RollingWindow:
    """Chunks 2..L of the windows of B episodes; their actions follow from what is remembered (``look_ahead``)."""

    latents: Tensor  # (B, (L - 1) F, C, h, w) float32 on the CPU, each chunk at the level of its next pass
    begun: Tensor  # (B,) bool: rows whose window is on its way; the others begin with their next chunk
    sampler: SamplerConfig

    @classmethod
    def empty(
        cls, num_envs: int, spec: WorldSpec, sampler: SamplerConfig, latent_shape: tuple[int, int, int]
    ) -> RollingWindow:
        """Make the windows of B episodes that have not begun.

        Raises:
            ValueError: if the start view is no context but part of the first chunk.
        """
        if spec.start_in_chunk:
            raise ValueError("a rolling window needs a start view that stands alone; set rolling=False in the sampler")
        shape = ((sampler.num_steps - 1) * spec.chunk_latents, *latent_shape)
        return cls(torch.zeros(num_envs, *shape), torch.zeros(num_envs, dtype=torch.bool), sampler)

    @property
    def num_latents(self) -> int:
        """Latents behind the coming chunk."""
        return self.latents.shape[1]

    def look_ahead(
        self,
        bank: MemoryBank,  # of these episodes
        track: Track,  # each (B, F, ...), of the coming chunk
    ) -> Track:
        """Return the whole window's, each (B, L F, ...): the coming chunk's, then the same action held.

        Under ``reset`` rows whose coming chunk is not what was assumed of it begin their windows anew.
        """
        newest = (bank.length[:, None] + torch.tensor([-2, -1])).clamp(min=0)
        before = bank.track.at((torch.arange(len(newest))[:, None], newest))
        if self.sampler.lookahead_policy == "reset":
            assumed = hold_action(before, track.num_latents).part(slice(1, None))
            for name, part in track.items():
                other = (part.double() - assumed[name].double()).abs().flatten(1).amax(1)
                self.drop(other > (TOLERANCE if part.is_floating_point() else 0))
        return hold_action(Track.join([before.part(slice(1, None)), track]), self.num_latents)

    def drop(self, rows: Tensor) -> None:
        """Let rows, (R,) int64 or (B,) bool, begin their windows anew."""
        self.begun[rows] = False

    def advance(self, prepared: Prepared, draw: Draw) -> Tensor:
        """Finish every row's front chunk, (B, F, C, h, w): by one pass, and L - 1 before it in rows that begin.

        All rows take part in all passes, so that a row's result depends on nobody else; those on their way keep theirs.
        """
        device, fresh = prepared.mask.device, ~self.begun
        behind = self.latents.to(device)
        if self.num_latents and fresh.any():
            made = behind[:, :0]
            for _ in range(self.sampler.num_steps - 1):
                made = roll_window(prepared.velocity, made, self.sampler, partial(draw, fresh))[1]
            behind = torch.where(fresh.to(device)[:, None, None, None, None], made, behind)
        x = roll_window(prepared.velocity, behind, self.sampler, partial(draw, torch.ones_like(fresh)))[1]
        front, behind = x.split([x.shape[1] - self.num_latents, self.num_latents], 1)
        self.latents, self.begun = behind.cpu(), torch.ones_like(fresh)
        return front

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy the windows of some rows as tensors with a leading row axis."""
        return {"window.latents": self.latents[rows], "window.begun": self.begun[rows]}

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Go on with cloned windows in these rows."""
        self.latents[rows], self.begun[rows] = tensors["window.latents"], tensors["window.begun"]

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Copy the windows of some rows onto others."""
        self.restore(rows, self.clone(source))
