"""Attention of a chunk to the pages of its memory: one call, three ways to compute it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backend import choose
from ..pages import Pages
from ..places import Reframing
from ..reframe_gather.op import check as check_pages
from ..reframe_gather.op import leaves_of, reframe_gather
from .ref import memory_attention_ref, merge, place_queries, slot_tokens

DENSE_QUERIES = 1024
"""Query tokens of an env from which attention is bound by arithmetic, so that a copy of the context costs little and
PyTorch's dense kernels are ahead. An estimate for Hopper, not measured."""

DENSE_BYTES = 2**30
"""Largest copy of the contexts that is made for that."""


def memory_attention(
    q: Tensor,  # (B, F, S, 1 or 2, N, D)
    pages: Pages,
    reframing: Reframing,
    *,
    backend: str = "auto",
) -> Tensor:
    """Let every query token of a chunk attend to all tokens of its env's filled slots, once per branch.

    The chunk's own latents are slots like others: write their keys and values to pages and list them in the table.
    Queries are normed, in as many forms as the keys. Gradients reach q, values, and keys that are not int8; they are
    computed with PyTorch, by placing keys and values anew.

    Args:
        q: queries, neither time nor camera applied.
        pages: one layer's pages.
        reframing: which pages, where they stand, where the queries stand.
        backend: ``triton`` (straight over the pages), ``gather`` (``reframe_gather``, then dense attention), ``torch``
            (the definition) or ``auto``: on a CPU the definition, on a GPU by size.

    Returns:
        (B, F, S, R, N, D), the branches side by side, so that both output projections are one product; 0 for an env
        without a filled slot.
    """
    _check(q, pages, reframing)
    kind = choose(backend, q, head_dim=q.shape[-1], backends=("triton", "gather", "torch"))
    if backend == "auto" and kind == "triton" and _is_dense(q, reframing):
        kind = "gather"
    if kind == "torch":
        return memory_attention_ref(q, pages, reframing)
    if kind == "gather":
        return gathered_attention(q, pages, reframing)
    out: Tensor = _MemoryAttention.apply(q.contiguous(), pages.keys, pages.values, pages, reframing)  # type: ignore[no-untyped-call]
    return out


def gathered_attention(
    q: Tensor,  # (B, F, S, 1 or 2, N, D)
    pages: Pages,
    reframing: Reframing,
    *,
    backend: str = "auto",
) -> Tensor:
    """Do the same through contiguous keys and values (``backend`` makes them) and PyTorch's dense attention."""
    keys, values = reframe_gather(pages, reframing, dtype=q.dtype, backend=backend)
    bias = None
    if not reframing.full:
        there = slot_tokens(reframing, pages.values.shape[1])[:, None, None]
        bias = torch.zeros_like(there, dtype=q.dtype).masked_fill(~there, torch.finfo(q.dtype).min)
    attended = F.scaled_dot_product_attention(place_queries(q, reframing), keys, values, attn_mask=bias)
    return merge(attended, reframing, tokens=q.shape[2])


def _is_dense(q: Tensor, reframing: Reframing) -> bool:
    batch, frames, tokens, _, heads, head_dim = q.shape
    copies = 2 * batch * reframing.num_branches * heads * reframing.table.shape[1] * tokens * head_dim
    return frames * tokens >= DENSE_QUERIES and copies * q.element_size() <= DENSE_BYTES


def _check(q: Tensor, pages: Pages, reframing: Reframing) -> None:
    check_pages(pages, reframing)
    expected = (*reframing.queries.positions.shape, *pages.keys.shape[1:])
    if q.shape != expected:
        raise ValueError(f"q is {tuple(q.shape)}, expected {expected}: latents of the reframing, keys of the pages")


class _MemoryAttention(torch.autograd.Function):
    """The kernel forwards; backwards PyTorch's own, through the definition's gather."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, keys: Tensor, values: Tensor, pages: Pages, reframing: Reframing) -> Tensor:
        from .kernel import has_tma, memory_attention_fwd

        ctx.save_for_backward(q, keys, values)
        ctx.mean, ctx.scale, ctx.reframing = pages.mean, pages.scale, reframing
        out = q.new_empty((*q.shape[:3], reframing.num_branches, *q.shape[4:]))
        return memory_attention_fwd(q, pages, reframing, out, tma=has_tma(q))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, keys, values = ctx.saved_tensors
        q = q.detach().requires_grad_()
        inputs, leaves = leaves_of(Pages(keys=keys, values=values, mean=ctx.mean, scale=ctx.scale))
        with torch.enable_grad():
            out = gathered_attention(q, leaves, ctx.reframing, backend="torch")
        gradients = torch.autograd.grad(out, [q, *inputs], grad)
        return gradients[0], (gradients[1] if len(inputs) == 2 else None), gradients[-1], None, None
