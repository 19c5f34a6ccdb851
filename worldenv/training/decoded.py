"""Recorded episodes as the VAE makes them: decoded when somebody first asks for one, and then kept.

Episodes of about one length are decoded together, the same ones whoever asks first: a run that goes on sees the
pictures that it would have seen, to the last bit.
"""

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
        self._beside = {number: group for group in _groups(episodes) for number in group}
        self._made: dict[int, Episode] = {}

    def of(self, numbers: Sequence[int]) -> list[Episode]:
        """Return some of them, by number."""
        for number in numbers:
            if number not in self._made:
                self._make(self._beside[number])
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


def _groups(episodes: Sequence[Episode]) -> list[list[int]]:
    """Put episodes together by length, so many that each group has ``TOGETHER`` frames at most, or is one episode."""
    groups: list[list[int]] = [[]]
    for number in sorted(range(len(episodes)), key=lambda i: len(episodes[i].frames)):
        if groups[-1] and (len(groups[-1]) + 1) * len(episodes[number].frames) > TOGETHER:
            groups.append([])
        groups[-1].append(number)
    return groups
