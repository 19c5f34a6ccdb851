"""How far a world is to be trusted: does the newest chunk come out the same when its last step is denoised anew, and do
the members of its heads agree?

Both are cheap: one more evaluation of the network a chunk, and a few small layers. What each of them is on held-out
recordings (``DoubtConfig``) makes one number of them, 1 where a world is as sure as it usually is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.schedule import SamplerConfig, add_noise, inference_sigmas
from ..world.config import DoubtConfig
from .events import Events
from .rollout import Prepared

SEED = 0
"""Of the noise that the last step is taken with again, the same for all rows and chunks: nothing else changes."""


class Doubt:
    """Of the newest chunk of every row."""

    def __init__(
        self, num_envs: int, shape: tuple[int, int, int, int], config: DoubtConfig, device: torch.device
    ) -> None:
        self.config, self.latents = config, torch.zeros(num_envs)
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(device)  # (F, C, h, w)

    def begin(self, rows: Tensor) -> None:
        """Let nothing be doubted of what rows begin with: it was recorded."""
        self.latents = self.latents.index_fill(0, rows, 0)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Doubt some rows as others."""
        self.latents = self.latents.index_copy(0, rows, self.latents[source])

    def note(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R,) what ``disagreement`` says
    ) -> None:
        """Keep it for these rows."""
        self.latents = self.latents.index_copy(0, rows, latents.float().cpu())

    def signals(self, events: Events) -> dict[str, Tensor]:
        """Return each sign by itself, (B,): of ``latents``, and of the heads that there are."""
        return {"latents": self.latents, **events.doubt}

    def uncertainty(self, events: Events) -> Tensor:
        """Return the mean of all signs that have been measured, each divided by what it usually is, (B,)."""
        parts = [part / scale for name, part in self.signals(events).items() if (scale := getattr(self.config, name))]
        return torch.stack(parts).mean(0)


def disagreement(
    prepared: Prepared,
    latents: Tensor,  # (B, F, C, h, w): a chunk as it was made
    noise: Tensor,  # (F, C, h, w)
    sampler: SamplerConfig,
) -> Tensor:
    """Noise a chunk to the sampler's last level and denoise it again; return the RMS of the difference, (B,)."""
    level = float(inference_sigmas(sampler)[-2])
    sigmas = torch.full(latents.shape[:2], level, device=latents.device)
    x = add_noise(latents, noise.to(latents), sigmas)
    velocity = prepared.velocity(x, 1000 * sigmas)
    if prepared.rendered is not None:
        velocity = prepared.rendered.guide(x, velocity, 1000 * sigmas)
    again = x - level * velocity
    return (again - latents).square().mean((1, 2, 3, 4)).sqrt()
