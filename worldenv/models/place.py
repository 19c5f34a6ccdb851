"""Where latents are, and what that does to their queries, keys, values and outputs in each branch of attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .prope import apply_heads, head_matrices
from .rope import apply_rope, rope_table
from .types import Conditioning, DiTConfig


@dataclass(frozen=True)
class Place:
    """Latents in time and picture (RoPE) and, with a camera branch, in space (PRoPE), as factors."""

    rope: tuple[Tensor, Tensor]  # each (B, F, S, 1, head_dim)
    cameras: tuple[Tensor, Tensor, Tensor] | None
    """Right factors of queries, of keys and values, of outputs, each (B F, head_dim, head_dim)."""

    @classmethod
    def of(cls, cond: Conditioning, config: DiTConfig, *, grid: tuple[int, int], dtype: torch.dtype) -> Place:
        """Place latents of ``grid`` (rows, columns) tokens; it does not depend on their timesteps and labels."""
        rows, columns = grid
        cosine, sine = rope_table(
            cond.positions, rows=rows, columns=columns, head_dim=config.head_dim, theta=config.rope_theta
        )
        cameras = None
        if config.camera_branch:
            assert cond.projection is not None
            assert cond.unprojection is not None
            cameras = head_matrices(cond.projection, cond.unprojection, head_dim=config.head_dim, dtype=dtype)
        return cls((cosine.to(dtype), sine.to(dtype)), cameras)

    def queries(
        self,
        q: Tensor,  # (B, F, S, N, head_dim)
    ) -> Tensor:
        """Return the queries of all branches side by side on the head axis, (B, R N, F S, head_dim)."""
        return self._branches(apply_rope(q, self.rope), q, 0)

    def keys(
        self,
        k: Tensor,  # (B, F, S, N, head_dim)
        v: Tensor,  # (B, F, S, N, head_dim)
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values of all branches side by side on the head axis, each (B, R N, F S, head_dim)."""
        return self._branches(apply_rope(k, self.rope), k, 1), self._branches(v, v, 1)

    def bring_back(
        self,
        out: Tensor,  # (B, R N, F S, head_dim)
    ) -> tuple[Tensor, ...]:
        """Return each branch in the latents' own frame, (B, F, S, N, head_dim)."""
        frames = self.rope[0].shape[1]
        out = out.transpose(1, 2).unflatten(1, (frames, -1))
        if self.cameras is None:
            return (out,)
        turned, camera = out.chunk(2, 3)
        return turned, apply_heads(camera, self.cameras[2])

    def _branches(self, turned: Tensor, plain: Tensor, factor: int) -> Tensor:
        branches = [turned] if self.cameras is None else [turned, apply_heads(plain, self.cameras[factor])]
        return torch.cat([x.flatten(1, 2).transpose(1, 2) for x in branches], 1)
