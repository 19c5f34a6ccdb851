"""Recorded episodes as the VAE makes them: each is decoded when somebody first asks for it, and then kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..base.rng import derive_seed
from ..data.events import Episode
from ..models.codec import Codec
from .augment import round_trips

TOGETHER = 256
"""Frames that are decoded at once, episodes of about one length."""


class Decoded:
    """The same episodes, encoded and decoded, with noise on their latents that follows from seed and number alone."""

    def __init__(self, vae: Codec, episodes: Sequence[Episode], *, noise: float = 0.0, seed: int = 0) -> None:
        self.vae, self.episodes, self.noise, self.seed = vae, episodes, noise, seed
        self._made: dict[int, Episode] = {}

    def of(self, numbers: Sequence[int]) -> list[Episode]:
        """Return some of them, by number."""
        lacking = sorted(set(numbers) - self._made.keys(), key=lambda i: len(self.episodes[i].frames))
        group: list[int] = []
        for number in lacking:
            if group and (len(group) + 1) * len(self.episodes[number].frames) > TOGETHER:
                self._make(group)
                group = []
            group.append(number)
        if group:
            self._make(group)
        return [self._made[number] for number in numbers]

    def all(self) -> list[Episode]:
        """Return every one."""
        return self.of(range(len(self.episodes)))

    def _make(self, numbers: Sequence[int]) -> None:
        generators = [torch.Generator().manual_seed(derive_seed(self.seed, "decoded", number)) for number in numbers]
        clips = [self.episodes[number].frames for number in numbers]
        made = round_trips(self.vae, clips, noise=self.noise, generators=generators)
        for number, frames in zip(numbers, made, strict=True):
            self._made[number] = replace(self.episodes[number], frames=frames)
