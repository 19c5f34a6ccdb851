"""Definition of attention over pages: place queries, keys and values, attend, bring the camera branch back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..heads import mix, turn
from ..pages import Pages
from ..places import Reframing
from ..reframe_gather.ref import reframe_gather_ref, turn_space


def memory_attention_ref(
    q: Tensor,  # (B, F, S, 1 or 2, N, D)
    pages: Pages,
    reframing: Reframing,
) -> Tensor:
    """Return what every query token reads, (B, F, S, R, N, D), in the dtype of q; 0 where no slot is filled."""
    keys, values = reframe_gather_ref(pages, reframing, dtype=q.dtype)
    placed = place_queries(q, reframing)
    scores = (placed * q.shape[-1] ** -0.5) @ keys.mT
    empty = ~slot_tokens(reframing, pages.values.shape[1])[:, None, None]
    attended = scores.masked_fill(empty, torch.finfo(scores.dtype).min).softmax(-1) @ values
    return merge(attended, reframing, tokens=q.shape[2])


def place_queries(
    q: Tensor,  # (B, F, S, 1 or 2, N, D)
    reframing: Reframing,
) -> Tensor:
    """Return the queries of all branches at their own time and camera, (B, R N, F S, D)."""
    angles = reframing.queries.positions.double()[..., None] * reframing.frequencies
    cosine, sine = (t[:, :, None, None].to(q.dtype) for t in (angles.cos(), angles.sin()))
    placed = [turn(turn_space(q[..., 0, :, :], reframing), cosine, sine)]
    if reframing.num_branches == 2:
        assert reframing.queries.projection is not None
        placed.append(mix(q[..., -1, :, :], reframing.queries.projection[:, :, None, None]))
    return torch.stack(placed, 3).flatten(1, 2).flatten(2, 3).transpose(1, 2)


def merge(
    attended: Tensor,  # (B, R N, F S, D)
    reframing: Reframing,
    *,
    tokens: int,
) -> Tensor:
    """Return (B, F, S, R, N, D), the camera branch in the frame of each query."""
    out = attended.transpose(1, 2).unflatten(2, (reframing.num_branches, -1)).unflatten(1, (-1, tokens))
    if reframing.num_branches == 1:
        return out
    assert reframing.queries.projection is not None
    turned = mix(out[..., 1, :, :], reframing.queries.projection[:, :, None, None].mT)
    return torch.stack([out[..., 0, :, :], turned], 3)


def slot_tokens(reframing: Reframing, tokens: int) -> Tensor:
    """Tell which tokens of the context are there, (B, M S) bool."""
    return (reframing.table >= 0).repeat_interleave(tokens, 1)
