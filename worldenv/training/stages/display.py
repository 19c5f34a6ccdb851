"""Stage ``display``: the decoder of large pictures, from a recording four times the size of the world's frames.

What a small frame lacks is learned from three kinds of frames: recorded pictures shrunk, the same as the VAE decodes
them, with noise on their latents, and what the world makes by itself. For the last there is no truth: they need only
look real to a discriminator of pairs of patches, one after the other, and shrink to what they were made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ...base.log import track
from ...base.psnr import psnr_of
from ...base.rng import derive_seed
from ...data.dataset import PixelDataset
from ...engine.engine import Engine
from ...geometry.action import BASIC_KEYS, camera_to_c2w, keys_to_camera
from ...models.codec import to_frames, to_pixels
from ...models.heads.display import SCALE, enlarged, shrunk
from ...world.world import World
from ..adversary import adversarial_loss
from ..augment import round_trip
from ..loop.optim import OptimConfig
from ..loop.plots import save_sheet
from .vae import gradient_loss

NUM_PREVIEW = 16
"""Held-out clips in previews."""
GAIN = 8.0
"""How much stronger the discriminator sees what a small frame cannot hold."""
LARGEST = 1.0
"""Largest weight of the discriminator's gradient: an absolute error's is ten times as large as a squared one's."""
MOTIONS = torch.tensor([(0, 0), *BASIC_KEYS, (1, 1), (1, 2)])
"""Keys of walks, one of them for a whole chunk: as people hold them."""


@dataclass(frozen=True, kw_only=True)
class DisplayTrainConfig:
    """Data and losses of stage ``display``."""

    crop: int = 32
    """Sides of the squares of small frames that are looked at, pixels."""
    decoded: float = 0.8
    """Share of recorded frames that the VAE has decoded."""
    latent_noise: float = 0.15
    """Largest noise on their latents, which generated ones are never free of; every clip has its own."""
    generated: float = 0.25
    """Samples of frames that the world made, for each recorded one; they count while there is a discriminator."""
    walks: int = 16
    """Walks of the world that these are taken from, each from the first frame of a recorded clip."""
    walk_chunks: int = 6
    """Chunks of a walk."""
    gradient: float = 1.0
    """Weight of the L1 difference of image gradients, for sharpness."""
    steady: float = 1.0
    """Weight of the L1 difference of what changes from one frame to the next."""
    faithful: float = 4.0
    """Weight of the L1 difference between a shrunk picture and the frame that it shows, where there is no truth."""
    adversarial: float = 0.0
    """Strength of the discriminator's gradient, relative to the reconstruction's; 0 goes without one."""


class PairDiscriminator(nn.Module):
    """Tells recorded pairs of patches from made ones: two pictures, one after the other; spectrally normalised.

    Beside the pictures it sees what shrinking takes from them, many times as strong: texture is faint, and layers whose
    norm is 1 would hardly see it.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = ((12, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 3, 1), (4 * width, 1, 3, 1))
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [spectral_norm(nn.Conv2d(*size, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(
        self,
        pixels: Tensor,  # (B, 2, 3, H, W)
    ) -> Tensor:
        """Return logits, positive for recorded, of every patch."""
        flat = pixels.flatten(1, 2)
        detail = GAIN * (flat - F.interpolate(F.avg_pool2d(flat, SCALE), scale_factor=SCALE, mode="bilinear"))
        logits: Tensor = self.layers(torch.cat([flat, detail], 1).contiguous(memory_format=torch.channels_last))
        return logits.float()


class Pictures:
    """Large recorded clips with the small frames that stand for them."""

    def __init__(self, folder: Path, world: World, *, max_clips: int | None, noise: float, seed: int) -> None:
        self.large = PixelDataset(folder, max_clips=max_clips)
        self.large.check_size(width=SCALE * world.spec.width, height=SCALE * world.spec.height, num_frames=5)
        generator = torch.Generator().manual_seed(derive_seed(seed, "decoded"))
        self.small = [shrunk(clip) for clip in self.large.clips]
        self.decoded = [
            round_trip(world.vae, clip, noise=noise, generator=generator)
            for clip in track(self.small, "decoding", total=len(self.small))
        ]


class DisplayStage:
    """Trains a world's display decoder; everything else of the world stays as it is.

    Args:
        world: the world that gets it.
        maker: the same world as it is stepped, whose VAE and rollouts frames are taken from.
        config: data and losses.
        optim: batch and seed.
        data: recording of large frames.
        heldout: another one, for previews.
        max_clips: use only this many clips.
    """

    def __init__(
        self,
        world: World,
        maker: World,
        config: DisplayTrainConfig,
        optim: OptimConfig,
        *,
        data: Path,
        heldout: Path | None,
        max_clips: int | None,
    ) -> None:
        self.config, self.optim, self.head = config, optim, world.require_display()
        crop, most = config.crop, min(world.spec.width, world.spec.height)
        if crop % SCALE or not 0 < crop <= most:
            raise ValueError(f"display_loss.crop={crop} must be a multiple of {SCALE}, and at most {most}")
        self.data = Pictures(data, maker, max_clips=max_clips, noise=config.latent_noise, seed=optim.seed)
        self.heldout = self.data
        if heldout is not None:
            self.heldout = Pictures(heldout, maker, max_clips=NUM_PREVIEW, noise=0.0, seed=optim.seed)
        parts: dict[str, nn.Module] = {"display": self.head}
        self.walks: list[Tensor] = []  # each (T, H, W, 3) uint8
        if config.adversarial:
            parts["discriminator"] = PairDiscriminator()
        if config.adversarial and config.walks and config.generated:
            starts = torch.stack([clip[0] for clip in self.data.small[: config.walks]])
            self.walks = list(walk(maker, starts, num_chunks=config.walk_chunks, seed=optim.seed))
        self.module = nn.ModuleDict(parts)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Show pairs of frames: near the truth where there is one, steady, and as if recorded."""
        config, device = self.config, self.head.out.weight.device
        small, large = (x.to(device) for x in self._recorded(generator))
        own = self._generated(generator).to(device)
        shown = self.head(torch.cat([small, own]).flatten(0, 1)).unflatten(0, (-1, 2))
        output, without_truth = shown.split([len(small), len(own)])
        l1 = F.l1_loss(output, large)
        reconstruction = l1 + config.gradient * gradient_loss(output, large)
        reconstruction = reconstruction + config.steady * F.l1_loss(output.diff(dim=1), large.diff(dim=1))
        figures = {"l1": float(l1.detach()), "psnr": float(psnr_of(F.mse_loss(output, large).detach(), peak=2))}
        if len(own):
            again = F.avg_pool2d(without_truth.flatten(0, 1), SCALE)
            unfaithful = F.l1_loss(again, own.flatten(0, 1))
            reconstruction = reconstruction + config.faithful * len(own) / len(small) * unfaithful
            figures["unfaithful"] = float(unfaithful.detach())
        if not config.adversarial:
            return reconstruction, figures
        more, said = adversarial_loss(
            self.module["discriminator"],
            large,
            shown,
            reconstruction,
            self.head.out.weight,
            strength=config.adversarial,
            largest=LARGEST,
        )
        return reconstruction + more, figures | said

    def _recorded(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw crops of pairs of small frames (B, 2, 3, h, w) and of their pictures (B, 2, 3, 4 h, 4 w)."""
        small, large = [], []
        for _ in range(self.optim.batch):
            clip = _below(len(self.data.small), generator)
            decoded = float(torch.rand((), generator=generator)) < self.config.decoded
            frames = (self.data.decoded if decoded else self.data.small)[clip]
            t, y, x = self._place(frames, generator)
            size, pictures = self.config.crop, self.data.large.clips[clip]
            small.append(frames[t : t + 2, y : y + size, x : x + size])
            y, x, size = SCALE * y, SCALE * x, SCALE * size
            large.append(pictures[t : t + 2, y : y + size, x : x + size])
        return to_pixels(torch.stack(small)), to_pixels(torch.stack(large))

    def _generated(self, generator: torch.Generator) -> Tensor:
        """Draw crops of pairs that the world made, (B', 2, 3, h, w); none without a discriminator."""
        size, crops = self.config.crop, []
        for _ in range(round(self.config.generated * self.optim.batch) if self.walks else 0):
            frames = self.walks[_below(len(self.walks), generator)]
            t, y, x = self._place(frames, generator)
            crops.append(frames[t : t + 2, y : y + size, x : x + size])
        return to_pixels(torch.stack(crops)) if crops else torch.empty(0, 2, 3, size, size)

    def _place(self, frames: Tensor, generator: torch.Generator) -> tuple[int, ...]:
        """Draw where a crop of a pair begins: frame, row, column."""
        last = (len(frames) - 2, frames.shape[1] - self.config.crop, frames.shape[2] - self.config.crop)
        return tuple(_below(n + 1, generator) for n in last)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Show held-out clips as the VAE decodes them: PSNR, sharpness and motion, beside bicubic interpolation's."""
        figures: dict[str, list[float]] = {}
        rows: list[Tensor] = []
        for large, decoded in zip(self.heldout.large.clips[:NUM_PREVIEW], self.heldout.decoded, strict=False):
            at = torch.arange(1, len(decoded), 16)
            both = torch.stack([at - 1, at], 1).flatten()  # pairs, for what changes from one frame to the next
            pixels, truth = to_pixels(decoded[both]), to_pixels(large[both])
            made = {
                "display": self.head(pixels.to(self.head.out.weight.device)).cpu().clamp(-1, 1),
                "bicubic": enlarged(pixels).clamp(-1, 1),
            }
            for name, pictures in made.items():
                for key, value in compare(pictures, truth).items():
                    figures.setdefault(f"{key}_{name}", []).append(value)
            if len(rows) < 12:
                rows += [to_frames(part[1::2][:4]) for part in (truth, made["bicubic"], made["display"])]
        save_sheet(folder / "samples" / f"{step:06d}.png", rows, scale=1)
        if self.walks:
            frames = tuple(walk[::16][:4] for walk in self.walks[:2])
            shown = [part for some in frames for part in (to_frames(enlarged(to_pixels(some))), self.head.show(some))]
            save_sheet(folder / "samples" / f"{step:06d}-generated.png", shown, scale=1)
        return {key: sum(values) / len(values) for key, values in figures.items()}


def compare(
    pictures: Tensor,  # (2 N, 3, H, W) in [-1, 1], pairs
    truth: Tensor,  # (2 N, 3, H, W)
) -> dict[str, float]:
    """Return PSNR, and gradients over space and over time in units of the truth's."""
    space, true_space = (x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean() for x in (pictures, truth))
    time, true_time = ((x[1::2] - x[::2]).abs().mean() for x in (pictures, truth))
    return {
        "psnr": float(psnr_of((pictures - truth).square().mean((1, 2, 3)), peak=2).mean()),
        "sharpness": float(space / true_space),
        "motion": float(time / true_time.clamp(min=1e-6)),
    }


def walk(
    world: World,
    starts: Tensor,  # (B, H, W, 3) uint8
    *,
    num_chunks: int,
    seed: int,
) -> Tensor:
    """Let a world go on from start views, a motion drawn for each chunk; return what it made, (B, T, H, W, 3) uint8.

    Raises:
        ValueError: if it has no camera.
    """
    world.spec.require_camera("walks of a world ([display_loss] generated, which may be 0)")
    count, length = len(starts), world.spec.chunk_latents
    engine = Engine(world, count, walls=world.has_walls(world.config.memory))
    engine.resume(starts[:, None], {}, seeds=list(range(count)))
    generator = torch.Generator().manual_seed(derive_seed(seed, "walks"))
    chunks = []
    for _ in track(range(num_chunks), "walking", total=num_chunks):
        drawn = MOTIONS[torch.randint(len(MOTIONS), (count,), generator=generator)]
        keys = drawn[:, None].expand(-1, length, -1)
        c2w = camera_to_c2w(keys_to_camera(keys), engine.c2w, world.spec.steps)
        chunks.append(engine.step({"keys": keys, "c2w": c2w}).frames)
    return torch.cat(chunks, 1)


def _below(limit: int, generator: torch.Generator) -> int:
    """Draw a number below a limit."""
    return int(torch.randint(limit, (), generator=generator))
