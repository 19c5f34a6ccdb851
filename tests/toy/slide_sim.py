"""A 2-D world seen by a camera that stands still: a disc slides over a dark table, and glows as it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from worldenv.base.rng import derive_seed
from worldenv.data.record import RecordConfig
from worldenv.data.schema import Clip
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Signal
from worldenv.dynamics.spec import FRAMES_PER_LATENT, WorldSpec

SIZE = 32
PUSH = Signal(shape=(3,), low=-1.0, high=1.0)
DISC = Signal(shape=(3,), low=-1.0, high=1.0)
SPEC = WorldSpec(width=SIZE, height=SIZE, chunk_latents=2, takes={"push": PUSH}, gives={"disc": DISC})
STEP = 0.1
"""How far a push of 1 moves the disc in a frame, in halves of the table."""


class Slide:
    """``Dynamics``: where the disc is (right, down) and how it glows, each in -1..1."""

    def __init__(self, num_envs: int, *, spec: WorldSpec = SPEC) -> None:
        self.num_envs, self.spec = num_envs, SPEC
        self.disc = torch.zeros(num_envs, 3)

    @property
    def present(self) -> dict[str, Tensor]:
        return {"disc": self.disc.clone()}

    def reset(self, *, seeds: Sequence[int], starts: Sequence[int | None], mask: Tensor | None = None) -> Chunk:
        for row in range(self.num_envs) if mask is None else mask.nonzero()[:, 0].tolist():
            generator = torch.Generator().manual_seed(derive_seed(seeds[row], "slide"))
            self.disc[row] = 1.6 * torch.rand(3, generator=generator) - 0.8
        return Chunk(paint(self.disc)[:, None], {"disc": self.disc[:, None].clone()})

    def step(self, commands: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> Chunk:
        index = torch.arange(self.num_envs) if rows is None else torch.tensor(list(rows))
        frames, discs = [], []
        for push in commands["push"].unbind(1):
            for _ in range(FRAMES_PER_LATENT):
                self.disc[index] = (self.disc[index] + STEP * push).clamp(-0.8, 0.8)
                frames.append(paint(self.disc[index]))
            discs.append(self.disc[index])
        return Chunk(torch.stack(frames, 1), {"disc": torch.stack(discs, 1)})


class Recorder:
    """A source of clips of it, pushed at random."""

    def __init__(self, config: RecordConfig) -> None:
        self.config, self.dynamics = config, Slide(1)

    def clip(self, index: int) -> Clip:
        seed, num_latents = self.config.first_seed + index, self.config.num_latents
        generator = torch.Generator().manual_seed(derive_seed(seed, "pushes"))
        push = 2 * torch.rand(1, num_latents, 3, generator=generator) - 1
        first = self.dynamics.reset(seeds=[seed], starts=[None])
        rest = self.dynamics.step({"push": push})
        frames = torch.cat([first.frames, rest.frames], 1)[0]
        disc = torch.cat([first.signals["disc"], rest.signals["disc"]], 1)[0]
        pushes = np.concatenate([np.zeros((1, 3), np.float32), push[0].numpy()])
        return Clip(frames.numpy(), {"push": pushes, "disc": disc.numpy()}, {"seed": seed})

    def close(self) -> None:
        """Stop nothing: no process runs."""


def paint(
    disc: Tensor,  # (B, 3)
) -> Tensor:
    """Draw discs, (B, H, W, 3) uint8."""
    axis = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    away = ((axis - disc[:, :1])[:, None].square() + (axis - disc[:, 1:2])[..., None].square()).sqrt()
    inside = ((0.3 - away) * 8).clamp(0, 1)[..., None]
    colour = torch.stack([0.6 + 0.4 * disc[:, 2], torch.full_like(disc[:, 2], 0.3), 0.6 - 0.4 * disc[:, 2]], -1)
    return (255 * (0.1 + 0.85 * inside * colour[:, None, None])).round().to(torch.uint8)
