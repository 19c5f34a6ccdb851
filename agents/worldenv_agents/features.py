"""Between observations and the policy's heads: small CNNs for pictures and latents, a logarithm for metres."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class WorldFeatures(BaseFeaturesExtractor):
    """Features of an observation, for pictures of about 64x48, a world's latents, vectors, or a dictionary of these.

    SB3's NatureCNN begins with 8x8 pixels at stride 4, which leaves little of a picture this small; three 3x3 and 5x5
    layers at stride 2 keep a 6x8 grid. Vectors hold metres without a bound and enter as ``sign(x) log(1 + |x|)``.
    """

    def __init__(self, observation_space: spaces.Space[Any], *, width: int = 128) -> None:
        single = not isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"obs": observation_space}
        images = {key: space for key, space in parts.items() if is_image_space(space)}
        latents = {key: space for key, space in parts.items() if key not in images and len(space.shape or ()) > 2}
        vectors = [key for key in parts if key not in images and key not in latents]
        vector_size = sum(spaces.flatdim(parts[key]) for key in vectors)
        super().__init__(observation_space, width * (len(images) + len(latents)) + vector_size)
        self.single, self.vectors = single, vectors
        self.images = nn.ModuleDict({key: picture_network(space, width) for key, space in images.items()})
        self.latents = nn.ModuleDict({key: latent_network(space, width) for key, space in latents.items()})

    def forward(self, observations: Any) -> Tensor:
        """Return (B, features); pictures arrive as (B, C, H, W) in 0..1, latents as (B, F, C, h, w)."""
        parts = {"obs": observations} if self.single else observations
        features = [network(parts[key]) for key, network in self.images.items()]
        features += [network(parts[key].float().flatten(1, -3)) for key, network in self.latents.items()]
        features += [symlog(parts[key].float().flatten(1)) for key in self.vectors]
        return torch.cat(features, 1)


def picture_network(space: spaces.Space[Any], width: int) -> nn.Sequential:
    """Build the CNN for pictures (C, H, W) of this space."""
    assert space.shape is not None
    channels, height, breadth = space.shape
    cells = -(-height // 8) * -(-breadth // 8)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * cells, width),
        nn.ReLU(),
    )


def latent_network(space: spaces.Space[Any], width: int) -> nn.Sequential:
    """Build the CNN for latents (F, C, h, w) of this space, whose cells are few and know what is around them."""
    assert space.shape is not None
    *channels, height, breadth = space.shape
    cells = -(-height // 2) * -(-breadth // 2)
    return nn.Sequential(
        nn.Conv2d(math.prod(channels), 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * cells, width),
        nn.ReLU(),
    )


def symlog(x: Tensor) -> Tensor:
    """Return ``sign(x) log(1 + |x|)``."""
    return x.sign() * x.abs().log1p()
