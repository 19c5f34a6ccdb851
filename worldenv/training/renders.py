"""Renders for training: what rendered memory knows of the chunks of recorded clips.

Frames are as the VAE decodes them and depth is what the head sees in those, as when a world is stepped. What a stage
without rollouts needs is made once with the latents (``ClipRenderer``); segments that a student rolls out are rendered
as it goes, from its own frames too (``SegmentRenderer``). A share bears noise of depth, softness and missing sources,
or shows what the world made instead of what was recorded, so that a world does not trust a render blindly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..base.device import resolve_device
from ..base.rng import normal
from ..data.dataset import LatentDataset
from ..dynamics.signals import Track
from ..dynamics.spec import FRAMES_PER_LATENT
from ..engine.render import Renderer
from ..engine.rollout import Rendered, generate_chunk, prepare
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.config import Layout, with_policy
from ..memory.context import gather
from ..memory.select import Query, select
from ..models.codec import to_frames
from ..world.world import World

VARIANTS = 2
"""Renders of each chunk: one as it is, the other degraded."""
DECODED = 4
"""Latents after which what the VAE decodes no longer depends on what came before."""


@dataclass(frozen=True, kw_only=True)
class RendersConfig:
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
    generated: float = 0.0
    """Share of clips whose degraded renders show what the world makes of each chunk, not what was recorded."""

    def __post_init__(self) -> None:
        for name in ("soft", "missing", "generated"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"[renders] {name}={getattr(self, name)} is a share, from 0 to 1")


@torch.no_grad()
def decoded_views(
    world: World,
    head: Renderer,
    start: Tensor,  # (H, W, 3) uint8
    latents: Tensor,  # (F, C, h, w)
) -> tuple[Tensor, Tensor]:
    """Return what each entry of a clip ends with, (E, H, W, 3) uint8, as the VAE decodes it but for the start view, and
    the depth that the head sees in it, (E, H, W) float16.
    """
    every = FRAMES_PER_LATENT * world.spec.chunk_latents
    frames = to_frames(world.vae.decode(latents[None].to(world.vae.latent_mean.device)))[:, ::every].cpu()
    frames[0, 0] = start
    return frames[0], head.depth(frames)[0].cpu().half()


class ClipRenderer:
    """Renders every chunk of a clip from what lies before it."""

    def __init__(self, world: World, config: RendersConfig) -> None:
        self.world, self.config = world, config
        self.memory = with_policy(world.config.memory, "worldplay")
        self.renderer = Renderer(world, world.spec, self.memory)
        self.layout = Layout(world.spec.chunk_latents)

    @torch.no_grad()
    def __call__(
        self,
        latents: Tensor,  # (F, C, h, w)
        track: Track,  # each (F, ...)
        views: tuple[Tensor, Tensor],  # frames (E, H, W, 3) and depth (E, H, W) of ``decoded_views``
        generator: torch.Generator,
    ) -> Tensor:
        """Return renders of all latents, (VARIANTS, F, C + 1, h, w) float16: known latents, and shares known.

        The start view's are 0, and those of a rest that is no whole chunk.
        """
        parts = [part for part in self.layout.parts(len(latents)) if part.start]
        first = torch.tensor([part.start for part in parts])
        coming = track.map(lambda signal: torch.stack([signal[part] for part in parts]))
        c2w, bank = coming["c2w"], self._bank(latents, track, views, first)
        index = select(bank, Query(coming), self.memory, self.layout).index
        places = self.renderer.sources(bank, index, c2w)
        made = self.renderer(bank, places, c2w)
        worse = bank
        if float(torch.rand(1, generator=generator)) < self.config.generated:
            whole = torch.cat([latents[:1], self._generated(bank, index, made, coming, generator).flatten(0, 1)])
            worse = self._bank(whole, track, decoded_views(self.world, self.renderer, views[0][0], whole), first)
        missing = torch.rand(places.shape, generator=generator) < self.config.missing
        again = self.renderer(degraded(worse, self.config, generator), torch.where(missing, -1, places), c2w)
        result = torch.zeros(VARIANTS, len(latents), latents.shape[1] + 1, *latents.shape[2:], dtype=torch.float16)
        for variant, rendered in enumerate((made, again)):
            known = torch.cat([rendered.latents * (rendered.known > 0), rendered.known], 2).cpu().half()
            result[variant, 1 : 1 + known.shape[0] * known.shape[1]] = known.flatten(0, 1)
        return result

    def _bank(self, latents: Tensor, track: Track, views: tuple[Tensor, Tensor], first: Tensor) -> MemoryBank:
        """Return a row for every chunk: the clip, as the world would have shown it, up to there (``first`` latents)."""

        def rows(part: Tensor) -> Tensor:
            return part.expand(len(first), *part.shape)

        frames, depth = (rows(part) for part in views)
        whole, given = track.map(lambda part: rows(part[: len(latents)])), torch.ones_like(first)
        return MemoryBank(
            rows(latents.float()),
            whole,
            first,
            frames=frames,
            depth=depth,
            every=self.layout.chunk_latents,
            given=given,
        )

    def _generated(
        self, bank: MemoryBank, index: Tensor, rendered: Rendered, coming: Track, generator: torch.Generator
    ) -> Tensor:
        """Let the world make every chunk after its true past, (rows, F, C, h, w)."""
        world, spec, device = self.world, self.world.spec, rendered.latents.device
        prepared = prepare(
            world.dit,
            gather(bank, index, self.layout),
            track=coming,
            latent_shape=world.latent_shape,
            K=normalise_intrinsics(spec.K, width=spec.width, height=spec.height),
            unit=spec.unit,
            rendered=rendered,
        )

        def noise() -> Tensor:
            return normal(rendered.latents.shape, generator, device)

        return generate_chunk(prepared, noise(), world.config.sampler, renoise=noise)


class SegmentRenderer:
    """Renders the coming chunks of B clips from banks that hold what their latents show."""

    def __init__(self, world: World, config: RendersConfig) -> None:
        self.config = config
        for module in (world.vae, world.require_depth_head()):
            module.to(resolve_device("auto"))
        self.world, self.renderer = world, Renderer(world, world.spec, world.config.memory)
        self.chunk = world.spec.chunk_latents

    def begin(
        self,
        bank: MemoryBank,
        data: LatentDataset,
        clips: Tensor,  # (B,)
        generator: torch.Generator | None,
    ) -> MemoryBank:
        """Return the bank with what these clips show; with a generator half of the rows are degraded."""
        assert data.frames is not None
        assert data.depth is not None
        bank = replace(
            bank, frames=data.frames[clips], depth=data.depth[clips], every=self.chunk, given=torch.ones_like(clips)
        )
        if generator is None:
            return bank
        worse = degraded(bank, self.config, generator)
        some = torch.rand(len(clips), generator=generator) < 0.5
        for name, part in worse.views().items():
            bank.views()[name][some] = part[some]
        return bank

    @torch.no_grad()
    def __call__(
        self,
        bank: MemoryBank,  # its latents from ``first`` on unknown but for those in ``index``
        index: Tensor,  # (B, S) latents in context
        c2w: Tensor,  # (B, F, 4, 4) of whole chunks
        first: Tensor,  # (B,) the first of these latents
    ) -> Rendered:
        """Render the context into every one of the coming chunks; what is known enters the transformer alone."""
        made = []
        for start in range(0, c2w.shape[1], self.chunk):
            past, coming = bank.with_length(first + start), c2w[:, start : start + self.chunk]
            made.append(self.renderer(past, self.renderer.sources(past, index, coming), coming))
        known = torch.cat([one.known for one in made], 1)
        return Rendered(torch.cat([one.latents for one in made], 1) * (known > 0), known, torch.zeros_like(known))

    @torch.no_grad()
    def show(
        self,
        bank: MemoryBank,
        last: Tensor,  # (B,) the newest latent, which ends a chunk
    ) -> None:
        """Decode what the newest chunk of every row ends with."""
        rows = torch.arange(len(last))
        index = (last[:, None] - torch.arange(DECODED - 1, -1, -1)).clamp(min=0)
        latents = bank.latents[rows[:, None], index].to(self.renderer.device)
        frames = to_frames(self.world.vae.decode(latents))[:, -1:]
        bank.show(rows, last[:, None], frames, self.renderer.depth(frames))


def degraded(bank: MemoryBank, config: RendersConfig, generator: torch.Generator) -> MemoryBank:
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
    latents, known = picked.split([picked.shape[2] - 1, 1], 2)
    return Rendered(latents, known, torch.zeros_like(known)).only(torch.rand(batch, generator=generator) >= dropout)
