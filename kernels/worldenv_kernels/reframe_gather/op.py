"""Pages to contiguous keys and values, placed: the bridge to any attention that knows nothing of pages."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..backend import choose
from ..pages import Pages
from ..places import Reframing
from .ref import reframe_gather_ref


def reframe_gather(
    pages: Pages,
    reframing: Reframing,
    *,
    dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return keys and values of all slots, branches side by side on the head axis, each (B, R N, M S, D).

    Empty slots are zeros; mask them with ``reframing.table``. Gradients reach pages that are not int8, and values.

    Args:
        pages: one layer's pages.
        reframing: which pages, and where they stand.
        dtype: of the result; None is that of the values.
        backend: ``auto``, ``triton`` or ``torch``.
    """
    check(pages, reframing)
    dtype = dtype or pages.values.dtype
    if choose(backend, pages.values, head_dim=pages.values.shape[-1]) == "torch":
        return reframe_gather_ref(pages, reframing, dtype=dtype)
    keys, values = _ReframeGather.apply(pages.keys, pages.values, pages, reframing, dtype)  # type: ignore[no-untyped-call]
    return keys, values


def check(pages: Pages, reframing: Reframing) -> None:
    """Raise ValueError if pages and reframing do not fit each other."""
    if reframing.table.device != pages.values.device:
        raise ValueError(
            f"pages are on {pages.values.device}, the reframing on {reframing.table.device}; pass reframe places and a "
            "table that are where the pages are"
        )
    if 2 * len(reframing.frequencies) != pages.values.shape[-1]:
        raise ValueError(
            f"pages have heads of {pages.values.shape[-1]} channels, the reframing was made for "
            f"{2 * len(reframing.frequencies)}; pass head_dim={pages.values.shape[-1]} to reframe"
        )
    if reframing.space is not None and (pages.quantised or pages.forms == 2):
        raise ValueError("int8 keys, and keys of two forms, are turned when written; leave space out of reframe")
    if reframing.space is not None and reframing.space[0].shape[0] != pages.values.shape[1]:
        raise ValueError(
            f"space has {reframing.space[0].shape[0]} tokens, pages have {pages.values.shape[1]}; "
            "pass reframe the space_table of the latents' rows and columns"
        )
    if reframing.num_branches < pages.forms:
        raise ValueError("pages hold keys for a camera branch and the reframing has no cameras; pass projections")


class _ReframeGather(torch.autograd.Function):
    """The kernel forwards; backwards PyTorch's own, through the definition."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, values: Tensor, pages: Pages, reframing: Reframing, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        from .kernel import reframe_gather_fwd

        ctx.save_for_backward(keys, values)
        ctx.mean, ctx.scale, ctx.reframing, ctx.dtype = pages.mean, pages.scale, reframing, dtype
        batch, slots = reframing.table.shape
        _, tokens, heads, head_dim = values.shape
        shape = (batch, reframing.num_branches * heads, slots * tokens, head_dim)
        out = (torch.empty(shape, dtype=dtype, device=values.device) for _ in range(2))
        return reframe_gather_fwd(pages, reframing, *out)

    @staticmethod
    def backward(ctx: Any, grad_keys: Tensor, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        keys, values = ctx.saved_tensors
        inputs, leaves = leaves_of(Pages(keys=keys, values=values, mean=ctx.mean, scale=ctx.scale))
        with torch.enable_grad():
            placed = reframe_gather_ref(leaves, ctx.reframing, dtype=ctx.dtype)
        gradients = torch.autograd.grad(placed, inputs, (grad_keys, grad_values))
        return (gradients[0] if len(inputs) == 2 else None), gradients[-1], None, None, None


def leaves_of(pages: Pages) -> tuple[list[Tensor], Pages]:
    """Return what gradients are wanted of (keys unless they are int8, values), and pages made of those."""
    values = pages.values.detach().requires_grad_()
    if pages.quantised:
        return [values], Pages(keys=pages.keys, values=values, mean=pages.mean, scale=pages.scale)
    keys = pages.keys.detach().requires_grad_()
    return [keys, values], Pages(keys=keys, values=values)
