"""Per-env random generators: row i's numbers depend on its seed alone, never on the batch it sits in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """Hash integers and strings into a 63-bit seed, stable across processes and versions."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw standard normal noise, float32, where it is needed: elsewhere than on the generator's CPU from a stream of
    that device, which the generator seeds.
    """
    if device.type == "cpu":
        return torch.randn(*shape, generator=generator)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.randn(*shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def draw_start(count: int, seed: int, start: int | None) -> int:
    """Return the start view of an episode: the one asked for, or one of ``count`` drawn from its seed.

    Raises:
        ValueError: if there is no such start view.
    """
    if start is None:
        return derive_seed(seed, "start") % count
    if not 0 <= start < count:
        raise ValueError(f"start={start}, but there are {count} start views, 0..{count - 1}")
    return start


class RowGenerators:
    """One CPU generator per env."""

    def __init__(self, num_envs: int) -> None:
        self.generators = [torch.Generator() for _ in range(num_envs)]

    def seed(self, row: int, seed: int) -> None:
        """Restart one row's stream."""
        self.generators[row].manual_seed(seed)

    def normal(self, rows: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Draw standard normal noise, (len(rows), *shape) float32, each row from its own stream."""
        return torch.stack([torch.randn(*shape, generator=self.generators[row]) for row in rows])

    def state(self, row: int) -> Tensor:
        """Return one row's generator state, a uint8 vector."""
        return self.generators[row].get_state()

    def restore(self, row: int, state: Tensor) -> None:
        """Set one row's generator state."""
        self.generators[row].set_state(state.clone())  # torch crashes on a view into a larger tensor
