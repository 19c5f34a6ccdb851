"""Stage ``consistency``: memory training whose inner features also have to know depth and other views (WorldScape).

L = L_fm + alpha L_depth + beta L_render. A head on the middle block's features says of every pixel how far it is and
which Gaussian lies there; these are drawn where other latents of the same clip were recorded. Both losses count the
less, the noisier the latents are. The head goes when training ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...base.config import check_numbers
from ...data.dataset import DepthDataset
from ...memory.context import Context
from ...models.codec import to_pixels
from ...models.gaussian_head import GaussianHead, PixelGaussians
from ..chunks import Chunks, Denoised, preview_policies
from ..material import Material
from ..spatial import View, depth_loss, render_loss

DECODED = 4
"""Of so many samples one is decoded, where colours are the model's own: that is what takes time."""


@dataclass(frozen=True, kw_only=True)
class SpatialConfig:
    """Losses of stage ``consistency``."""

    depth: float = 0.1
    """Weight of the depth loss, alpha."""
    render: float = 0.05
    """Weight of the rendering loss, beta."""
    ramp: float = 0.2
    """Share of the steps over which both weights grow from 0."""
    detached: float = 0.5
    """Share of the steps in which Gaussians have the recorded colours, so that geometry must explain what is wrong;
    then the least noisy quarter of the samples has those of the model's own estimate, decoded, and gradients reach
    these too."""
    reach: int = 6
    """Latents, before or after, among which the view to render is drawn."""

    def __post_init__(self) -> None:
        check_numbers(self, counts=("reach",))
        for name in ("depth", "render"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} is the weight of a loss; give 0 or more")
        for name in ("ramp", "detached"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share of the steps, from 0 to 1")


class SpatialStage:
    """Denoises chunks with their memory, as stage ``memory`` does, and reads space off the transformer's features."""

    def __init__(self, material: Material, spatial: SpatialConfig, *, views: DepthDataset, steps: int) -> None:
        self.material, self.config, self.views, self.steps = material, spatial, views, steps
        world = material.world
        world.spec.require_camera("stage 'consistency'")
        world.vae.to(material.device).requires_grad_(False)
        config = world.config.dit
        self.chunks, self.cell = Chunks(material), world.vae.spatial_factor * config.patch
        self.head = GaussianHead(config.width, cell=self.cell)
        self.middle = world.dit.blocks[(config.num_layers - 1) // 2]
        self.module = nn.ModuleDict({"dit": world.dit, "gaussians": self.head})
        self.progress = 0.0

    def begin(self, step: int) -> None:
        """Hear which step comes next."""
        self.progress = step / self.steps

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise ``draws`` noisy copies of a chunk; at the first of them read space off the features."""
        material, chunks, config = self.material, self.chunks, self.config
        bank, target, renders = chunks.targets(generator)
        context = chunks.noised(chunks.context(bank, target, generator), generator)
        with outputs(self.middle) as features:
            made = chunks.denoised(context, target, generator, material.drawn(renders, generator))
        assert bank.order is not None
        flow, first = made.error.mean(), slice(None, None, material.config.draws)
        with torch.autocast(material.device.type, enabled=False):
            found = self._read(features[-1][first])
            depth, render = self._errors(found, made.at(first), target, bank.order, generator)
            weight = (1 - made.sigmas[first, 0].to(depth)).square()
            depth, render = ((weight * error).mean() for error in (depth, render))
        grown = 1.0 if not config.ramp else min(1.0, self.progress / config.ramp)
        total = flow + grown * (config.depth * depth + config.render * render)
        return total, {"flow": float(flow.detach()), "depth": float(depth.detach()), "render": float(render.detach())}

    def _read(
        self,
        features: Tensor,  # (B, F, S, D)
    ) -> PixelGaussians:
        spec = self.material.world.spec
        grid = (spec.height // self.cell, spec.width // self.cell)
        found: PixelGaussians = self.head(features.flatten(0, 1).float(), grid)
        return found

    def _errors(
        self,
        found: PixelGaussians,  # (B F, H, W) each
        made: Denoised,
        target: Context,
        clips: Tensor,  # (B,) int64
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the errors of depth and of a rendered view of each sample, (B,) each."""
        material, chunk, batch = self.material, self.material.chunk, len(clips)
        start = chunk * (target.entry[:, 0] - 1) + 1
        index = start[:, None] + torch.arange(chunk)
        truth = self.views.depth[clips[:, None], index].float().to(material.device)
        depth = depth_loss(found.log_depth, truth.flatten(0, 1)).view(batch, chunk).mean(1)
        own = torch.randint(chunk, (batch,), generator=generator)
        other = self._others(start + own, generator)
        source, view = self._view(clips, start + own), self._view(clips, other)
        colour = source.pixels
        if self.progress >= self.config.detached:
            some = made.sigmas[:, 0].argsort().cpu()[: math.ceil(batch / DECODED)]
            shown = self._shown(made.at(some), clips[some], start[some], own[some])
            colour = colour.index_copy(0, some.to(colour.device), shown)
        picked = found.select(torch.arange(batch) * chunk + own)
        K = material.world.spec.K.to(material.device)
        return depth, render_loss(picked, colour, source, view, K)

    def _others(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Draw for each latent (B,) another one of its clip, near it."""
        last, reach = self.views.frames.shape[1] - 1, self.config.reach
        away = torch.randint(1, reach + 1, index.shape, generator=generator)
        away = torch.where(torch.rand(index.shape, generator=generator) < 0.5, away, -away)
        away = torch.where((index + away < 0) | (index + away > last), -away, away)
        return (index + away).clamp(0, last)

    def _view(self, clips: Tensor, index: Tensor) -> View:
        device = self.material.device
        frames, depth = self.views.frames[clips, index], self.views.depth[clips, index].float()
        c2w = self.material.data.track["c2w"][clips, index]
        return View(to_pixels(frames).to(device), depth.to(device), c2w.to(device))

    def _shown(self, made: Denoised, clips: Tensor, start: Tensor, own: Tensor) -> Tensor:
        """Decode the model's estimate of chunks, behind the latent before them; return one view each, (B, 3, H, W)."""
        before = self.material.data.latents[clips, start - 1][:, None].to(made.x0)
        pixels = self.material.world.vae.decode(torch.cat([before, made.x0], 1))
        frames = (pixels.shape[1] - 1) // self.material.chunk
        return pixels[torch.arange(len(own)), frames * (own + 1)].clamp(-1, 1)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return paths of held-out clips after a true outward half, under several memory policies."""
        return preview_policies(self.material, folder, step)


@contextmanager
def outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that grows by what a module returns whenever it is called."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, given, returned: found.append(returned))
    try:
        yield found
    finally:
        handle.remove()
