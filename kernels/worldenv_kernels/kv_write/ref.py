"""Definition: QK norm over the whole width, rows and columns turned, keys and values put into their pages."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..heads import turn
from ..pages import Pages, quantise


def kv_write_ref(
    qkv: Tensor,  # (B, F, S, 3, N, D)
    weight_q: Tensor,  # (N D)
    weight_k: Tensor,  # (N D)
    pages: Pages,  # written
    slots: Tensor,  # (B, F) int32: the page of each latent, -1 for none
    space: tuple[Tensor, Tensor] | None,  # each (S, D / 2)
    *,
    eps: float,
) -> Tensor:
    """Write keys and values and return the queries, (B, F, S, forms, N, D)."""
    q, k, v = qkv.unbind(3)
    q, k = (_forms(_norm(t, w, eps), space, pages.forms) for t, w in ((q, weight_q), (k, weight_k)))
    kept = slots >= 0
    where = slots[kept].long()
    pages.values[where] = v[kept].to(pages.values)
    if pages.mean is None or pages.scale is None:
        pages.keys[where] = k[kept].to(pages.keys)
    else:
        pages.keys[where], pages.mean[where], pages.scale[where] = quantise(k[kept])
    return q


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x.flatten(-2), weight.shape, weight.to(x.dtype), eps).view_as(x)


def _forms(x: Tensor, space: tuple[Tensor, Tensor] | None, forms: int) -> Tensor:
    """Return (B, F, S, forms, N, D): turned, if rows and columns are given, and plain if there are two."""
    if space is None:
        return x[:, :, :, None]
    turned = turn(x, *(t[:, None].to(x.dtype) for t in space))
    return torch.stack([turned, x][:forms], 3)
