"""Previews: held-out clips continued by the model, against the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..base.psnr import psnr_of
from ..data.dataset import LatentDataset
from ..dynamics.spec import frames_of
from ..engine.engine import Engine
from ..memory.config import with_policy
from ..models.codec import to_frames
from ..world.world import World
from .loop.plots import save_sheet

NUM_CLIPS = 16
"""Clips per preview."""
NUM_SHOWN = 6
"""Clips in its picture."""


def preview_rollout(
    world: World, data: LatentDataset, folder: Path, step: int, *, num_latents: int, policy: str, num_true: int
) -> dict[str, float]:
    """Continue clips along their own paths after ``num_true`` true latents, up to ``num_latents`` in all.

    Writes truth above result to ``samples/`` and returns PSNR and contrast of the generated frames.
    """
    chunk, count = world.spec.chunk_latents, min(NUM_CLIPS, len(data))
    latents, track = data.latents[:count].float(), data.track.at(slice(count))
    world.vae.to(world.dit.patch_embedding.weight.device)
    engine = Engine(world, count, memory=with_policy(world.unguided(), policy), decode=False)
    engine.begin(torch.arange(count), latents[:, :num_true], track.part(slice(num_true)), list(range(count)))
    for first in range(num_true, num_latents, chunk):
        engine.generate(track.part(slice(first, first + chunk)))
    shown = (engine.history.bank.latents[:, :num_latents], latents[:, :num_latents])
    return compare(world, shown, folder / "samples" / f"{step:06d}-{policy}.png", policy, num_true)


def compare(
    world: World,
    latents: tuple[Tensor, Tensor],
    path: Path,
    name: str,
    num_true: int,
    *,
    measure: Callable[[Tensor, Tensor], dict[str, float]] = lambda made, truth: {},
) -> dict[str, float]:
    """Decode what was made and the truth, save both as a sheet, measure the generated frames (B, T, 3, H, W)."""
    vae = world.vae
    made, truth = (vae.decode(x.to(vae.latent_mean.device)).clamp(-1, 1) for x in latents)
    skip = max(1, made.shape[1] // 16)
    save_sheet(path, [to_frames(x[i, ::skip]).cpu() for i in range(min(NUM_SHOWN, len(made))) for x in (truth, made)])
    made, truth = (x[:, frames_of(num_true, world.spec.frames_per_latent) :] for x in (made, truth))
    psnr = psnr_of((made - truth).square().mean((2, 3, 4)), peak=2)
    contrast = made.std((2, 3, 4)) / truth.std((2, 3, 4))
    figures = {"psnr": float(psnr.mean()), "contrast": float(contrast.mean()), **measure(made, truth)}
    return {f"{key}_{name}": value for key, value in figures.items()}
