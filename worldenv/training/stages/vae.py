"""Stages ``vae`` and ``decoder``: reconstruct windows of frames, then sharpen them.

A decoder trained on squared error paints the mean of what a latent may stand for: fine texture, and its motion, are
lost. Stage ``decoder`` leaves the encoder, and so every latent and the transformer, as they are and trains the decoder
against a discriminator of video patches, as latent diffusion's VAEs are (Rombach et al. 2022, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ...base.psnr import psnr_of
from ...base.rng import normal
from ...data.dataset import PixelDataset
from ...models.codec import to_frames, to_pixels
from ...models.vae import VAE
from ...world.world import World
from ..adversary import adversarial_loss
from ..loop.plots import save_sheet

PREVIEW_FRAMES = 17
"""Frames per window of previews and of the principal components."""


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Losses and windows of the VAE."""

    num_frames: int = 13
    """Frames per window, 4N + 1."""
    gradient: float = 0.05
    """Weight of the L1 difference of image gradients, for sharpness."""
    hardest: float = 0.0
    """Weight of the mean squared error of each frame's worst hundredth of pixels: small things that matter, a ball or a
    bullet, are else what a mean over all pixels gives up first."""
    kl: float = 1e-6
    """Weight of the posterior's divergence from a standard normal."""
    adversarial: float = 1.0
    """Stage ``decoder``: strength of the discriminator's gradient, relative to the reconstruction's."""
    latent_noise: float = 0.05
    """Stage ``decoder``: largest noise on latents, which generated ones are never free of."""


def gradient_loss(
    a: Tensor,  # (..., H, W)
    b: Tensor,  # (..., H, W)
) -> Tensor:
    """Mean absolute difference of horizontal and vertical finite differences."""
    return F.l1_loss(a.diff(dim=-1), b.diff(dim=-1)) + F.l1_loss(a.diff(dim=-2), b.diff(dim=-2))


def hardest_loss(
    a: Tensor,  # (..., 3, H, W)
    b: Tensor,  # (..., 3, H, W)
) -> Tensor:
    """Mean squared error of the hundredth of each picture's pixels, one at least, that differ most."""
    errors = (a - b).square().mean(-3).flatten(-2)
    return errors.topk(max(1, errors.shape[-1] // 100)).values.mean()


class Frames:
    """Windows of frames, and what their reconstruction is worth on held-out ones."""

    def __init__(
        self,
        world: World,
        config: VAELossConfig,
        batch: int,
        *,
        data: Path,
        heldout: Path | None,
        max_clips: int | None,
    ) -> None:
        assert isinstance(world.vae, VAE)
        self.vae, self.config, self.batch = world.vae, config, batch
        self.data = PixelDataset(data, max_clips=max_clips)
        self.heldout = PixelDataset(heldout, max_clips=64) if heldout else self.data
        for part in (self.data, self.heldout):
            part.check_size(width=world.spec.width, height=world.spec.height, num_frames=PREVIEW_FRAMES)

    def pixels(self, generator: torch.Generator) -> Tensor:
        """Draw a batch of windows, (B, T, 3, H, W) in [-1, 1]."""
        frames = self.data.sample(self.batch, self.config.num_frames, generator)
        device = self.vae.decoder.head.conv.weight.device
        if self.vae.latent_mean.device != device:
            self.vae.to(device)  # the loop moves what is trained, which may be the decoder alone
        return to_pixels(frames.to(device))

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Reconstruct held-out windows; report PSNR, contrast and motion, save truth above reconstruction."""
        frames = self.heldout.sample(24, PREVIEW_FRAMES, torch.Generator().manual_seed(0))
        pixels = to_pixels(frames).to(self.vae.latent_mean.device)
        output = torch.cat([self.vae.decode(self.vae.encode(p)) for p in pixels.split(8)]).clamp(-1, 1)
        mse = (output - pixels).square().mean((2, 3, 4))
        contrast = output.std((2, 3, 4)) / pixels.std((2, 3, 4))
        motion = output.diff(dim=1).abs().mean() / pixels.diff(dim=1).abs().mean()
        rows = [row for i in range(4) for row in (frames[i, ::2], to_frames(output[i, ::2]).cpu())]
        save_sheet(folder / "samples" / f"{step:06d}.png", rows)
        psnr = psnr_of(mse, peak=2).mean()
        return {"heldout_psnr": float(psnr), "contrast": float(contrast.mean()), "motion": float(motion)}


class VAEStage:
    """Trains encoder and decoder on random windows.

    With a seed ``fresh`` the linear maps begin as the principal components of frames drawn by it.
    """

    def __init__(self, frames: Frames, *, fresh: int | None = None) -> None:
        self.frames, self.vae, self.config = frames, frames.vae, frames.config
        self.module, self.preview = self.vae, frames.preview
        if fresh is not None:
            some = frames.data.sample(256, PREVIEW_FRAMES, torch.Generator().manual_seed(fresh))
            self.vae.init_linear(to_pixels(some))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruct a batch through a sampled posterior."""
        pixels = self.frames.pixels(generator)
        mean, log_variance = self.vae.posterior(pixels)
        noise = normal(mean.shape, generator, mean.device)
        z = (mean + (0.5 * log_variance).exp() * noise).transpose(1, 2)
        output = self.vae.decode(self.vae.normalise(z))
        mse = F.mse_loss(output, pixels)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = mse + self.config.gradient * gradient_loss(output, pixels) + self.config.kl * kl
        if self.config.hardest:
            loss = loss + self.config.hardest * hardest_loss(output, pixels)
        return loss, {"psnr": float(psnr_of(mse.detach(), peak=2)), "kl": float(kl.detach())}

    @torch.no_grad()
    def measure_latents(self) -> None:
        """Set the latents' normalisation from the training data.

        Channels are divided by the square root of their deviation, not by the deviation itself: the strong ones, which
        carry most of the picture, stay stronger, and so weigh more in the transformer's loss. Over all channels the
        variance is 1.
        """
        self.vae.latent_mean.zero_()
        self.vae.latent_scale.fill_(1)
        latents = []
        for i in range(32):
            frames = self.frames.data.sample(8, self.config.num_frames, torch.Generator().manual_seed(i))
            pixels = to_pixels(frames).to(self.vae.latent_mean.device)
            latents.append(self.vae.encode(pixels).movedim(2, 0).flatten(1))
        values = torch.cat(latents, 1)
        scale = values.std(1).sqrt()
        self.vae.latent_mean.copy_(values.mean(1))
        self.vae.latent_scale.copy_(scale * (values.std(1) / scale).square().mean().sqrt())


class Discriminator(nn.Module):
    """Tells recorded from decoded patches of 4 frames and a quarter of a 64x48 picture; spectrally normalised."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = (
            (3, width, (3, 4, 4), (1, 2, 2)),
            (width, 2 * width, (3, 4, 4), (1, 2, 2)),
            (2 * width, 4 * width, (3, 3, 3), (2, 1, 1)),
            (4 * width, 1, (1, 3, 3), (1, 1, 1)),
        )
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [spectral_norm(nn.Conv3d(*size, padding=(0, 1, 1))), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(
        self,
        pixels: Tensor,  # (B, T, 3, H, W), T >= 7
    ) -> Tensor:
        """Return logits, positive for recorded, of every patch."""
        logits: Tensor = self.layers(pixels.transpose(1, 2))
        return logits.float()


class DecoderStage:
    """Trains the decoder alone, against a discriminator that learns along."""

    def __init__(self, frames: Frames) -> None:
        self.frames, self.vae, self.config = frames, frames.vae, frames.config
        self.preview = frames.preview
        if self.config.num_frames < 9:
            raise ValueError(
                f"vae_loss.num_frames={self.config.num_frames}; the discriminator needs windows of 9 or more"
            )
        self.discriminator = Discriminator()
        self.module = nn.ModuleDict({"decoder": self.vae.decoder, "discriminator": self.discriminator})

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruct, deceive, detect: the decoder's and the discriminator's losses, neither moving the other."""
        pixels = self.frames.pixels(generator)
        with torch.no_grad():
            latents = self.vae.encode(pixels)
        level = self.config.latent_noise * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
        noise = level.to(latents.device) * normal(latents.shape, generator, latents.device)
        output = self.vae.decode(latents + noise)
        mse = F.mse_loss(output, pixels)
        reconstruction = mse + self.config.gradient * gradient_loss(output, pixels)
        more, figures = adversarial_loss(
            self.discriminator,
            pixels,
            output,
            reconstruction,
            self.vae.decoder.head.conv.weight,
            strength=self.config.adversarial,
        )
        return reconstruction + more, {"psnr": float(psnr_of(mse.detach(), peak=2)), **figures}
