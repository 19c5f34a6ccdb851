"""From a block's projection to its queries, and to keys and values in their pages."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import choose
from ..pages import Pages
from .ref import kv_write_ref


def kv_write(
    qkv: Tensor,  # (B, F, S, 3, N, D)
    weight_q: Tensor,  # (N D)
    weight_k: Tensor,  # (N D)
    pages: Pages,
    slots: Tensor,  # (B, F) int32
    space: tuple[Tensor, Tensor] | None,  # each (S, D / 2)
    *,
    eps: float = 1e-6,
    backend: str = "auto",
) -> Tensor:
    """Norm queries and keys over the whole width, turn them by row and column, and store keys and values.

    Time and camera are left to whoever reads the pages. With two forms of keys the second stays unturned, as a camera
    branch without rotary positions wants it; with one form and no ``space`` keys stay plain for both branches. int8
    keys take a second pass: a page's mean needs all its tokens. No gradients.

    Args:
        qkv: what the projection returned, contiguous.
        weight_q: weight of the queries' RMS norm.
        weight_k: weight of the keys' RMS norm.
        pages: one layer's pages; those in ``slots`` are written.
        slots: the page of each latent, no page twice; -1 stores nothing.
        space: ``space_table`` of the latent's rows and columns; None leaves that to the reader too.
        eps: added to the mean square.
        backend: ``auto``, ``triton`` or ``torch``.

    Returns:
        Queries in as many forms as the keys, (B, F, S, forms, N, D).
    """
    _check(qkv, weight_q, weight_k, pages, slots, space)
    with torch.no_grad():
        if choose(backend, qkv, head_dim=qkv.shape[-1]) == "torch":
            return kv_write_ref(qkv, weight_q, weight_k, pages, slots, space, eps=eps)
        from .kernel import kv_write_fwd

        q = qkv.new_empty((*qkv.shape[:3], pages.forms, *qkv.shape[4:]))
        return kv_write_fwd(qkv.contiguous(), weight_q, weight_k, pages, slots.contiguous(), space, q, eps=eps)


def _check(
    qkv: Tensor,
    weight_q: Tensor,
    weight_k: Tensor,
    pages: Pages,
    slots: Tensor,
    space: tuple[Tensor, Tensor] | None,
) -> None:
    if qkv.ndim != 6 or qkv.shape[3] != 3:
        raise ValueError(f"qkv is {tuple(qkv.shape)}, expected (B, F, S, 3, N, D)")
    batch, frames, tokens, _, heads, head_dim = qkv.shape
    if pages.values.shape[1:] != (tokens, heads, head_dim):
        raise ValueError(f"pages are {tuple(pages.values.shape)}, expected (P, {tokens}, {heads}, {head_dim})")
    expected = {
        "weight_q": (weight_q, (heads * head_dim,)),
        "weight_k": (weight_k, (heads * head_dim,)),
        "slots": (slots, (batch, frames)),
    }
    if space is not None:
        expected |= {f"space[{i}]": (t, (tokens, head_dim // 2)) for i, t in enumerate(space)}
    elif pages.forms == 2 or pages.quantised:
        raise ValueError("int8 keys, and keys of two forms, are turned when written; pass space")
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {shape} for qkv {tuple(qkv.shape)}")
