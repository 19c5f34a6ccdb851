"""Stage ``heads``, of hands: where the object is, learned from recorded frames and from what the VAE makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...base.device import resolve_device
from ...base.rng import derive_seed
from ...data.objects import ObjectDataset, behind
from ...models.codec import to_pixels
from ...models.heads import ObjectConfig, ObjectHead
from ...world.world import World
from ..augment import AugmentConfig, degrade, round_trip
from ..loop.optim import OptimConfig

NUM_PREVIEW = 32
"""Held-out clips per preview."""


@dataclass(frozen=True, kw_only=True)
class ObjectTrainConfig:
    """Data and losses of the head that reads a hand's object."""

    sizes: ObjectConfig = field(default_factory=ObjectConfig)
    """Sizes of the head."""
    num_latents: int = 8
    """Latents of a window: as far back as it learns to remember."""
    decoded: float = 0.5
    """Share of windows that the VAE has decoded, with noise on their latents."""
    latent_noise: float = 0.15
    """Largest noise on those latents, which generated ones are never free of."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(untouched=0.5, tint=0.0, blotches=0.05))
    """What else is done to the frames."""


class ObjectStage:
    """Trains a world's object head; everything else of the world stays as it is."""

    def __init__(
        self,
        world: World,
        config: ObjectTrainConfig,
        optim: OptimConfig,
        *,
        data: Path,
        heldout: Path | None,
        max_clips: int | None,
    ) -> None:
        self.world, self.config, self.optim, self.every = world, config, optim, world.spec.frames_per_latent
        world.vae.to(resolve_device("auto"))
        generator = torch.Generator().manual_seed(derive_seed(optim.seed, "decoded"))
        noisy = partial(round_trip, world.vae, noise=config.latent_noise, generator=generator)
        load = partial(ObjectDataset.load, spec=world.spec)
        self.data = load(data, max_clips=max_clips)
        self.decoded = load(data, max_clips=max_clips, through=noisy)
        left = heldout or data
        self.heldout = {
            "truth": load(left, max_clips=NUM_PREVIEW),
            "vae": load(left, max_clips=NUM_PREVIEW, through=partial(round_trip, world.vae)),
        }
        self.module = ObjectHead(config.sizes)
        world.heads["object_read"] = self.module
        world.config = replace(world.config, heads=replace(world.config.heads, object_read=self.module.config))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the head's error on a batch of windows, half of which begin with their clips."""
        batch, count = self.optim.batch, min(self.config.num_latents, self.data.truth.shape[1])
        clips = torch.randint(len(self.data), (batch,), generator=generator)
        first = torch.randint(self.data.truth.shape[1] - count + 1, (batch,), generator=generator)
        first = first.where(torch.rand(batch, generator=generator) < 0.5, torch.zeros_like(first))
        frames, truth, points = self.data.windows(clips, first, count, self.every)
        decoded = self.decoded.windows(clips, first, count, self.every)[0]
        some = torch.rand(batch, generator=generator) < self.config.decoded
        frames = torch.where(some[:, None, None, None, None, None], decoded, frames)
        pixels = degrade(to_pixels(frames).flatten(1, 2), self.config.augment, generator).view(
            batch, count, -1, 3, *frames.shape[3:5]
        )
        device = self.module.merge.weight.device
        (said, hand), truth, points = self.module(pixels.to(device)), truth.to(device), points.to(device)
        off = (self.module.decide(said.detach())[..., :3] - truth[..., :3]).norm(dim=-1)
        figures = {"error_mm": float(1000 * off.median()), "hand": float((hand - points).abs().mean().detach())}
        return self.module.error(said, truth) + F.smooth_l1_loss(10 * hand, 10 * points), figures

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Return the errors on held-out clips, true and decoded."""
        figures: dict[str, float] = {}
        for name, data in self.heldout.items():
            found, hand = read_objects(self.module, data.frames, self.every)
            seen = (hand - data.keypoints).norm(dim=-1) * self.world.spec.width / 2
            off = 1000 * (found[..., :3] - data.truth[..., :3]).norm(dim=-1)
            touched = ((found[..., 4] > 0.5) == (data.truth[..., 4] > 0.5)).float()
            figures |= {
                f"median_mm_{name}": float(off.median()),
                f"p90_mm_{name}": float(off.flatten().quantile(0.9)),
                f"touch_{name}": float(touched.mean()),
                f"keypoints_px_{name}": float(seen.median()),
                f"speed_{name}": float((found[..., 3] - data.truth[..., 3]).abs().median()),
            }
        return figures


@torch.no_grad()
def read_objects(
    head: ObjectHead,
    frames: Tensor,  # (N, T, H, W, 3) uint8 of whole clips
    frames_per_latent: int,
) -> tuple[Tensor, Tensor]:
    """Return what a head says of the end of each latent, (N, F, 5), and where it sees keypoints, (N, F, K, 2)."""
    device, found = head.merge.weight.device, []
    for clip in frames:
        said, hand = head(to_pixels(behind(clip, frames_per_latent))[None].to(device))
        found.append((head.decide(said)[0].cpu(), hand[0].cpu()))
    places, points = zip(*found, strict=True)
    return torch.stack(places), torch.stack(points)
