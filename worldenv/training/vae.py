"""Stage ``vae``: reconstruct windows of frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.dataset import PixelDataset
from ..engine.world import World
from ..models.vae import VAE, to_frames, to_pixels
from .loop import OptimConfig
from .plots import save_sheet

PREVIEW_FRAMES = 17
"""Frames per window of previews and of the principal components."""


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Losses and windows of the VAE."""

    num_frames: int = 13
    """Frames per window, 4N + 1."""
    gradient: float = 0.05
    """Weight of the L1 difference of image gradients, for sharpness."""
    kl: float = 1e-6
    """Weight of the posterior's divergence from a standard normal."""


def gradient_loss(
    a: Tensor,  # (..., H, W)
    b: Tensor,  # (..., H, W)
) -> Tensor:
    """Mean absolute difference of horizontal and vertical finite differences."""
    return F.l1_loss(a.diff(dim=-1), b.diff(dim=-1)) + F.l1_loss(a.diff(dim=-2), b.diff(dim=-2))


class VAEStage:
    """Trains encoder and decoder on random windows."""

    def __init__(
        self, world: World, config: VAELossConfig, optim: OptimConfig, *, data: Path, heldout: Path | None,
        max_clips: int | None, fresh: bool,
    ) -> None:  # fmt: skip
        assert isinstance(world.vae, VAE)
        self.module, self.config, self.optim = world.vae, config, optim
        self.data = PixelDataset(data, max_clips=max_clips)
        self.heldout = PixelDataset(heldout, max_clips=64) if heldout else self.data
        for part in (self.data, self.heldout):
            part.check_size(width=world.spec.width, height=world.spec.height, num_frames=PREVIEW_FRAMES)
        if fresh:
            frames = self.data.sample(256, PREVIEW_FRAMES, torch.Generator().manual_seed(optim.seed))
            self.module.init_linear(to_pixels(frames))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruct a batch through a sampled posterior."""
        frames = self.data.sample(self.optim.batch, self.config.num_frames, generator)
        device = self.module.latent_mean.device
        pixels = to_pixels(frames.to(device))
        mean, log_variance = self.module.posterior(pixels)
        noise = torch.randn(mean.shape, generator=generator).to(device)
        z = (mean + (0.5 * log_variance).exp() * noise).transpose(1, 2)
        output = self.module.decode(self.module.normalise(z))
        mse = F.mse_loss(output, pixels)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = mse + self.config.gradient * gradient_loss(output, pixels) + self.config.kl * kl
        return loss, {"psnr": float(10 * torch.log10(4 / mse.detach())), "kl": float(kl.detach())}

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Reconstruct held-out windows; report PSNR and contrast, save truth above reconstruction."""
        frames = self.heldout.sample(24, PREVIEW_FRAMES, torch.Generator().manual_seed(0))
        pixels = to_pixels(frames).to(self.module.latent_mean.device)
        output = torch.cat([self.module.decode(self.module.encode(p)) for p in pixels.split(8)]).clamp(-1, 1)
        mse = (output - pixels).square().mean((2, 3, 4))
        contrast = output.std((2, 3, 4)) / pixels.std((2, 3, 4))
        rows = [row for i in range(4) for row in (frames[i, ::2], to_frames(output[i, ::2]).cpu())]
        save_sheet(folder / "samples" / f"{step:06d}.png", rows)
        return {"heldout_psnr": float((10 * torch.log10(4 / mse)).mean()), "contrast": float(contrast.mean())}

    @torch.no_grad()
    def measure_latents(self) -> None:
        """Set the latents' normalisation from the training data.

        Channels are divided by the square root of their deviation, not by the deviation itself: the strong ones, which
        carry most of the picture, stay stronger, and so weigh more in the transformer's loss. Over all channels the
        variance is 1.
        """
        self.module.latent_mean.zero_()
        self.module.latent_scale.fill_(1)
        latents = []
        for i in range(32):
            frames = self.data.sample(8, self.config.num_frames, torch.Generator().manual_seed(i))
            pixels = to_pixels(frames).to(self.module.latent_mean.device)
            latents.append(self.module.encode(pixels).movedim(2, 0).flatten(1))
        values = torch.cat(latents, 1)
        scale = values.std(1).sqrt()
        self.module.latent_mean.copy_(values.mean(1))
        self.module.latent_scale.copy_(scale * (values.std(1) / scale).square().mean().sqrt())
