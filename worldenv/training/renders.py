"""Renders for training: what rendered memory would know of every chunk of a recorded clip, made once with its latents.

Frames are as the VAE decodes them and depth is what the head sees in those, as when a world is stepped; the start view
is true. Further variants bear noise of depth, softness and missing sources, so that a world does not trust a render
blindly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..engine.render import Renderer
from ..engine.rollout import Rendered
from ..engine.world import World
from ..memory.bank import MemoryBank
from ..memory.config import Layout, with_policy
from ..memory.select import Query, select
from ..models.vae import to_frames

VARIANTS = 2
"""Renders of each chunk: one as it is, the others degraded."""


@dataclass(frozen=True, kw_only=True)
class DegradeConfig:
    """What degraded renders bear."""

    scale: float = 0.06
    """Standard deviation of the logarithm of a whole view's depth."""
    bend: float = 0.06
    """The same of smooth noise within a view, cells of 8 pixels."""
    soft: float = 0.7
    """Largest share of a 3x3 mean in a view."""
    colour: float = 0.03
    """Standard deviation of smooth noise of colours, in pixel values of 0..1."""
    missing: float = 0.25
    """Share of sources that are missing."""


class ClipRenderer:
    """Renders every chunk of a clip from what lies before it."""

    def __init__(self, world: World, config: DegradeConfig) -> None:
        self.world, self.config = world, config
        self.memory = with_policy(world.config.memory, "worldplay")
        self.renderer = Renderer(world, world.spec, self.memory)
        self.layout = Layout(world.spec.chunk_latents)

    @torch.no_grad()
    def __call__(
        self,
        start: Tensor,  # (H, W, 3) uint8
        latents: Tensor,  # (F, C, h, w)
        c2w: Tensor,  # (F, 4, 4)
        generator: torch.Generator,
    ) -> Tensor:
        """Return renders of all latents, (VARIANTS, F, C + 1, h, w) float16: known latents, and shares known.

        The start view's are 0, and those of a rest that is no whole chunk.
        """
        bank = self._bank(start, latents, c2w)
        parts = [part for part in self.layout.parts(len(latents)) if part.start]
        first = bank.length
        coming = torch.stack([c2w[part] for part in parts])
        index = select(bank, Query(coming), self.memory, self.layout).index
        places = self.renderer.sources(bank, index, coming)
        result = torch.zeros(VARIANTS, len(latents), latents.shape[1] + 1, *latents.shape[2:], dtype=torch.float16)
        for variant in range(VARIANTS):
            if variant:
                bank = degraded(bank, self.config, generator)
                missing = torch.rand(places.shape, generator=generator) < self.config.missing
                places = torch.where(missing, -1, places)
            made = self.renderer(bank, places, coming)
            whole = torch.cat([made.latents * (made.known > 0), made.known], 2).cpu().half()
            for row, begin in enumerate(first.tolist()):
                result[variant, begin : begin + whole.shape[1]] = whole[row]
        return result

    def _bank(self, start: Tensor, latents: Tensor, c2w: Tensor) -> MemoryBank:
        """Return a row for every chunk: the clip, as the world would have shown it, up to there."""
        vae = self.world.vae
        frames = to_frames(vae.decode(latents[None].to(vae.latent_mean.device)))[:, ::4].cpu()
        frames[0, 0] = start
        chunk = self.layout.chunk_latents
        depth = torch.zeros(frames.shape[:-1], dtype=torch.float16)
        depth[:, ::chunk] = self.renderer.depth(frames[:, ::chunk]).cpu().half()
        first = torch.tensor([part.start for part in self.layout.parts(len(latents)) if part.start])
        rows = len(first)
        whole = [x.expand(rows, *x.shape[1:]) for x in (latents[None].float(), c2w[None], frames, depth)]
        labels = torch.zeros(rows, len(latents), dtype=torch.long)
        return MemoryBank(
            whole[0], whole[1], labels, first, frames=whole[2], depth=whole[3], given=torch.ones_like(first)
        )  # fmt: skip


def degraded(bank: MemoryBank, config: DegradeConfig, generator: torch.Generator) -> MemoryBank:
    """Return the same views, softer, of other colours and with wrong depth; every row has its own, the start view's
    colours excepted.
    """
    assert bank.frames is not None
    assert bank.depth is not None
    rows, count, height, width, _ = bank.frames.shape
    size, cells = (rows * count, height, width), (height // 8, width // 8)

    def smooth(channels: int) -> Tensor:
        noise = torch.randn(size[0], channels, *cells, generator=generator)
        return F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)

    scale = config.scale * torch.randn(size[0], 1, 1, generator=generator)
    bend = (scale + config.bend * smooth(1)[:, 0]).exp().view(bank.depth.shape)
    pixels = bank.frames.flatten(0, 1).movedim(-1, 1).float() / 255
    mean = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = config.soft * torch.rand(size[0], 1, 1, 1, generator=generator)
    changed = torch.lerp(pixels, mean, soft) + config.colour * smooth(3)
    frames = (255 * changed).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).view(bank.frames.shape)
    frames[:, 0] = bank.frames[:, 0]
    return replace(bank, frames=frames, depth=(bank.depth.float() * bend).half())


def drawn(
    renders: Tensor,  # (B, VARIANTS, F, C + 1, h, w)
    *,
    dropout: float,
    generator: torch.Generator,
) -> Rendered:
    """Draw a variant for each row, or a render that knows nothing."""
    batch = len(renders)
    variant = torch.randint(renders.shape[1], (batch,), generator=generator)
    picked = renders[torch.arange(batch), variant].float()
    keep = torch.rand(batch, 1, 1, 1, 1, generator=generator) >= dropout
    latents, known = (picked * keep).split([picked.shape[2] - 1, 1], 2)
    return Rendered(latents, known, torch.zeros_like(known))
