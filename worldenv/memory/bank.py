"""The bank: every latent an env has seen or made, with its pose and key label, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class MemoryBank:
    """History of B envs, grown by doubling. Row b holds ``length[b]`` latents; what lies beyond is undefined."""

    latents: Tensor  # (B, M, C, h, w) float32
    c2w: Tensor  # (B, M, 4, 4) float64
    labels: Tensor  # (B, M) int64
    length: Tensor  # (B,) int64

    @classmethod
    def empty(cls, num_envs: int, latent_shape: tuple[int, int, int], *, capacity: int = 64) -> MemoryBank:
        """Make a bank without entries."""
        return cls(
            latents=torch.zeros(num_envs, capacity, *latent_shape),
            c2w=torch.eye(4, dtype=torch.float64).repeat(num_envs, capacity, 1, 1),
            labels=torch.zeros(num_envs, capacity, dtype=torch.long),
            length=torch.zeros(num_envs, dtype=torch.long),
        )

    def append(
        self,
        rows: Tensor,  # (R,) int64 env indices
        latents: Tensor,  # (R, F, C, h, w)
        c2w: Tensor,  # (R, F, 4, 4)
        labels: Tensor,  # (R, F)
    ) -> None:
        """Append F latents to each of the given rows."""
        if len(rows) == 0:
            return
        count = latents.shape[1]
        while int(self.length[rows].max()) + count > self.latents.shape[1]:
            self._grow()
        slots = self.length[rows, None] + torch.arange(count)
        self.latents[rows[:, None], slots] = latents.detach().to("cpu", torch.float32)
        self.c2w[rows[:, None], slots] = c2w.to("cpu", torch.float64)
        self.labels[rows[:, None], slots] = labels.to("cpu")
        self.length[rows] += count

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents, poses and labels."""
        return self.latents, self.c2w, self.labels

    def with_length(
        self,
        length: Tensor,  # (B,)
    ) -> MemoryBank:
        """Return the same history, ending elsewhere."""
        return MemoryBank(*self.parts(), length)

    def clear(
        self,
        rows: Tensor,  # (R,) int64
    ) -> None:
        """Forget the history of the given rows."""
        self.length[rows] = 0

    def fork(
        self,
        source: Tensor,  # (R,) int64
        rows: Tensor,  # (R,) int64
    ) -> None:
        """Copy the histories of some rows onto others."""
        longest = int(self.length[source].max())
        for part in self.parts():
            part[rows, :longest] = part[source, :longest]
        self.length[rows] = self.length[source]

    def _grow(self) -> None:
        for name in ("latents", "c2w", "labels"):
            old = getattr(self, name)
            new = torch.zeros_like(old)
            setattr(self, name, torch.cat([old, new], 1))
