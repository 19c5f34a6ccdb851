"""Stage ``heads``: what reads depth off a frame, learned from recorded frames and from those that the VAE decodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...base.device import resolve_device
from ...base.rng import derive_seed
from ...data.dataset import DepthDataset
from ...models.codec import to_pixels
from ...models.heads import DepthHead
from ...world.world import World
from ..augment import AugmentConfig, degrade, round_trip
from ..loop.optim import OptimConfig
from ..loop.plots import save_sheet

NUM_PREVIEW = 24
"""Held-out clips per preview."""
FAR = 12.0
"""Metres that are white in previews."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Data and losses of stage ``heads``."""

    decoded: float = 0.6
    """Share of frames that the VAE has decoded, with noise on their latents."""
    latent_noise: float = 0.15
    """Largest noise on those latents, which generated ones are never free of; every clip has its own."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(untouched=0.5))
    """What else is done to the frames."""


class HeadsStage:
    """Trains a world's depth head; everything else of the world stays as it is."""

    def __init__(
        self,
        world: World,
        config: HeadsConfig,
        optim: OptimConfig,
        *,
        data: Path,
        heldout: Path | None,
        max_clips: int | None,
    ) -> None:
        self.config, self.optim = config, optim
        self.module = world.require_depth_head()
        world.vae.to(resolve_device("auto"))
        generator = torch.Generator().manual_seed(derive_seed(optim.seed, "decoded"))
        noisy = partial(round_trip, world.vae, noise=config.latent_noise, generator=generator)
        self.data = DepthDataset.load(data, max_clips=max_clips)
        self.decoded = DepthDataset.load(data, max_clips=max_clips, through=noisy)
        self.heldout = {"truth": self.data, "vae": self.decoded}
        if heldout is not None:
            plain = partial(round_trip, world.vae)
            self.heldout = {
                name: DepthDataset.load(heldout, max_clips=NUM_PREVIEW, through=through)
                for name, through in (("truth", None), ("vae", plain))
            }

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the Laplacian likelihood of the logarithm of depth, whose scale is the head's own uncertainty."""
        clip = torch.randint(len(self.data), (self.optim.batch,), generator=generator)
        at = torch.randint(self.data.frames.shape[1], (self.optim.batch,), generator=generator)
        decoded = torch.rand(self.optim.batch, generator=generator) < self.config.decoded
        frames = torch.where(decoded[:, None, None, None], self.decoded.frames[clip, at], self.data.frames[clip, at])
        pixels = degrade(to_pixels(frames)[:, None], self.config.augment, generator)[:, 0]
        depth = self.data.depth[clip, at].float()
        mirrored = torch.rand(self.optim.batch, generator=generator) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        depth = torch.where(mirrored[:, None, None], depth.flip(-1), depth)
        device = self.module.out.weight.device
        found, error = self.module(pixels.to(device))
        wrong = (found.log() - depth.to(device).log()).abs()
        return (wrong / error + error.log()).mean(), {"error": float(wrong.detach().median())}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return the errors on held-out frames, true and decoded; draw frames above their true and found depth."""
        figures: dict[str, float] = {}
        for name, data in self.heldout.items():
            frames, depth = data.frames[:, ::4].flatten(0, 1), data.depth[:, ::4].flatten(0, 1).float()
            found, error = measure(self.module, frames)
            figures |= {f"{key}_{name}": value for key, value in depth_errors(found, depth, error).items()}
            some = slice(None, None, max(1, len(frames) // 12))
            rows = [frames[some], *(_grey(d[some]) for d in (depth, found))]
            save_sheet(folder / "samples" / f"{step:06d}-{name}.png", rows)
        return figures


@torch.no_grad()
def measure(
    head: DepthHead,
    frames: Tensor,  # (N, H, W, 3) uint8
) -> tuple[Tensor, Tensor]:
    """Return depth and its relative error as the head sees them, each (N, H, W), in batches."""
    device = head.out.weight.device
    parts = [head(to_pixels(part).to(device)) for part in frames.split(64)]
    depth, error = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
    return depth, error


def depth_errors(
    found: Tensor,  # (N, H, W) metres
    truth: Tensor,  # (N, H, W)
    error: Tensor,  # (N, H, W) the head's own relative error
) -> dict[str, float]:
    """Compare depths: relative errors over pixels, and how far the errors that the head expects are the real ones."""
    relative = ((found - truth).abs() / truth).flatten()
    scale = (found.log() - truth.log()).flatten(1).median(1).values.abs()
    return {
        "depth_median": float(relative.median()),
        "depth_mean": float(relative.mean()),
        "depth_scale": float(scale.median()),  # of whole frames
        "depth_expected": float(error.median()),
    }


def _grey(
    depth: Tensor,  # (N, H, W) metres
) -> Tensor:
    """Draw depth in grey, (N, H, W, 3) uint8."""
    return (255 * (depth / FAR).clamp(0, 1).sqrt()).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
