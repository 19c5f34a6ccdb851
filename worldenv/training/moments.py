"""Recorded moments for a world to begin at, drawn from all that is not an end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..base.log import console
from ..data.events import Episode
from ..dynamics.signals import Track
from ..models.codec import to_pixels
from ..world.histories import Histories
from ..world.world import World


@torch.no_grad()
def draw_moments(
    world: World, episodes: Sequence[Episode], count: int, *, history: int, generator: torch.Generator
) -> Histories | None:
    """Draw moments with so many frames of history each; None where no episode goes on after that many."""
    spec, every = world.spec, world.spec.frames_per_latent
    length = spec.chunk_latents * -(-history // spec.chunk_frames)
    places = [(i, first) for i, one in enumerate(episodes) for first in range(len(one) - length)]
    if not places or not count:
        console.print(f"no episode goes on after {history} frames: the world has no recorded moments to begin at")
        return None
    chosen = torch.randperm(len(places), generator=generator)[:count].tolist()
    latents, views, tracks = [], [], []
    for i, first in (places[k] for k in chosen):
        frames = episodes[i].frames[every * first : every * (first + length) + 1]
        latents.append(world.vae.encode(to_pixels(frames[None]).to(world.vae.latent_mean.device, world.vae.dtype))[0])
        views.append(frames[-1:])
        tracks.append(episodes[i].history(first, length, spec.still(1).at(0)))
    whole = Track({name: torch.stack([one[name] for one in tracks]) for name in spec.takes})
    return Histories(torch.stack(latents).half().cpu(), whole, torch.stack(views))
