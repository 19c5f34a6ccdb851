"""Definition: keys and values are placed where their slot is, then every latent attends to them as usual."""

from __future__ import annotations

import torch
from torch import Tensor

from ..heads import mix, turn
from ..pages import Pages, read_keys
from ..places import Reframing


def reframe_gather_ref(
    pages: Pages,
    reframing: Reframing,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Return keys and values of all slots, branches side by side, each (B, R N, M S, D); empty slots are zeros."""
    filled = (reframing.table >= 0)[:, :, None, None, None]
    index = reframing.table.clamp(min=0).long()
    stored = read_keys(pages, index, dtype=dtype).masked_fill(~filled[..., None], 0)  # (B, M, S, forms, N, D)
    v = pages.values[index].to(dtype).masked_fill(~filled, 0)
    cosine, sine = (t[:, :, None, None].to(dtype) for t in slot_angles(reframing))
    keys, values = [turn(turn_space(stored[..., 0, :, :], reframing), cosine, sine)], [v]
    if reframing.num_branches == 2:
        matrix = slot_matrix(reframing)[:, :, None, None]
        keys.append(mix(stored[..., -1, :, :], matrix))
        values.append(mix(v, matrix))
    both = (torch.stack(t, 3).flatten(1, 2).flatten(2, 3).transpose(1, 2) for t in (keys, values))
    placed_keys, placed_values = both
    return placed_keys, placed_values


def turn_space(
    x: Tensor,  # (B, F, S, N, D)
    reframing: Reframing,
) -> Tensor:
    """Turn plain queries or keys (of the first S tokens) by row and column; those that are turned already stay."""
    if reframing.space is None:
        return x
    cosine, sine = (t[: x.shape[2], None].to(x.dtype) for t in reframing.space)
    return turn(x, cosine, sine)


def slot_angles(reframing: Reframing) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of every slot's time, each (B, M, D / 2) float64."""
    positions = torch.where(reframing.table >= 0, reframing.slots.positions.double(), 0.0)
    angles = positions[..., None] * reframing.frequencies
    return angles.cos(), angles.sin()


def slot_matrix(reframing: Reframing) -> Tensor:
    """Return what a row vector of a key or value is multiplied by, U^T, (B, M, 4, 4); empty slots have the identity."""
    unprojection = reframing.slots.unprojection
    assert unprojection is not None
    eye = torch.eye(4, dtype=unprojection.dtype, device=unprojection.device)
    return torch.where((reframing.table >= 0)[..., None, None], unprojection, eye).mT
