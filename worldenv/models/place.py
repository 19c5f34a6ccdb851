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
    """Latents in time and picture (RoPE) and, with further branches, in space (PRoPE) or from the grasp, as factors."""

    rope: tuple[Tensor, Tensor]  # each (B, F, S, 1, head_dim)
    cameras: tuple[Tensor, Tensor, Tensor] | None
    """Right factors of queries, of keys and values, of outputs, each (B F, head_dim, head_dim)."""
    grasp: tuple[Tensor, Tensor] | None = None  # each (B, F, S, 1, head_dim): rotary too, rows and columns from there

    @classmethod
    def of(cls, cond: Conditioning, config: DiTConfig, *, grid: tuple[int, int], dtype: torch.dtype) -> Place:
        """Place latents of ``grid`` (rows, columns) tokens; it does not depend on their timesteps and labels."""
        rows, columns = grid

        def table(origin: Tensor | None = None) -> tuple[Tensor, Tensor]:
            head_dim, theta = config.head_dim, config.rope_theta
            cosine, sine = rope_table(
                cond.positions, rows=rows, columns=columns, head_dim=head_dim, theta=theta, origin=origin
            )
            return cosine.to(dtype), sine.to(dtype)

        cameras = grasp = None
        if config.camera_branch:
            assert cond.projection is not None
            assert cond.unprojection is not None
            cameras = head_matrices(cond.projection, cond.unprojection, head_dim=config.head_dim, dtype=dtype)
        if config.grasp_branch:
            assert cond.grasp is not None
            grasp = table(cond.grasp)
        return cls(table(), cameras, grasp)

    def queries(
        self,
        q: Tensor,  # (B, F, S, N, head_dim)
    ) -> Tensor:
        """Return the queries of all branches side by side on the head axis, (B, R N, F S, head_dim)."""
        return self._branches(q, 0)

    def keys(
        self,
        k: Tensor,  # (B, F, S, N, head_dim)
        v: Tensor,  # (B, F, S, N, head_dim)
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values of all branches side by side on the head axis, each (B, R N, F S, head_dim)."""
        return self._branches(k, 1), self._branches(v, 1, turned=False)

    def bring_back(
        self,
        out: Tensor,  # (B, R N, F S, head_dim)
    ) -> tuple[Tensor, ...]:
        """Return each branch in the latents' own frame, (B, F, S, N, head_dim)."""
        frames = self.rope[0].shape[1]
        out = out.transpose(1, 2).unflatten(1, (frames, -1))
        branches = list(out.chunk(1 + (self.cameras is not None) + (self.grasp is not None), 3))
        if self.cameras is not None:
            branches[1] = apply_heads(branches[1], self.cameras[2])
        return tuple(branches)

    def _branches(self, x: Tensor, factor: int, *, turned: bool = True) -> Tensor:
        branches = [apply_rope(x, self.rope) if turned else x]
        if self.cameras is not None:
            branches.append(apply_heads(x, self.cameras[factor]))
        if self.grasp is not None:
            branches.append(apply_rope(x, self.grasp) if turned else x)
        return torch.cat([x.flatten(1, 2).transpose(1, 2) for x in branches], 1)
