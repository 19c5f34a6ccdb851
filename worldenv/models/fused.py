"""Operations with a backward pass of their own, for training on CPUs: less is written to memory and read again.

Each computes what a few lines of PyTorch compute (``backend.TorchBackend``, ``F.rms_norm``); tests compare both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .attention import SCORES


def attend_after(
    q: Tensor,  # (B M, N, Sq, D)
    past: tuple[Tensor, Tensor],  # keys and values, each (B, N, Sp, D)
    own: tuple[Tensor, Tensor],  # keys and values, each (B M, N, So, D)
    bias: Tensor | None,  # (B M or 1, 1, Sq, Sp + So)
) -> Tensor:
    """Return what M neighbouring rows of queries read in one past that they share and in keys of their own.

    (B M, N, Sq, D). The rows are folded into the past's queries, so that it is not repeated.
    """
    count = len(q) // len(past[0])

    def fold(x: Tensor) -> Tensor:  # (B M, N, S, D) to (B, N, M, S, D)
        return x.unflatten(0, (-1, count)).transpose(1, 2).contiguous()

    if bias is not None:
        bias = fold(bias.expand(len(q), -1, -1, -1))
    keys, values = (t.to(q.dtype).contiguous() for t in past)
    out: Tensor = _AttendAfter.apply(fold(q * q.shape[-1] ** -0.5), keys, values, *(fold(t) for t in own), bias)  # type: ignore[no-untyped-call]
    return out.transpose(1, 2).flatten(0, 1)


def linear_gelu(
    x: Tensor,  # (..., D)
    weight: Tensor,  # (E, D)
    bias: Tensor,  # (E,)
) -> Tensor:
    """Return tanh-GELU of a linear layer, (..., E); what the GELU takes is computed anew for the backward pass."""
    out: Tensor = _LinearGELU.apply(x, weight.to(x.dtype), bias.to(x.dtype))  # type: ignore[no-untyped-call]
    return out


def rms_norm(
    x: Tensor,  # (..., D)
    weight: Tensor,  # (D,)
    eps: float,
) -> Tensor:
    """Return ``F.rms_norm`` over the last axis."""
    out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _AttendAfter(torch.autograd.Function):
    """Attention to a shared past and to one's own keys by products of matrices, a few rows of the batch at a time.

    Weights of the past and one's own lie apart, as whole matrices, which are faster to multiply than parts of one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,  # (B, N, M, Sq, D), scaled
        past_k: Tensor,  # (B, N, Sp, D)
        past_v: Tensor,  # (B, N, Sp, D)
        k: Tensor,  # (B, N, M, So, D)
        v: Tensor,  # (B, N, M, So, D)
        bias: Tensor | None,  # (B, 1, M, Sq, Sp + So)
    ) -> Tensor:
        sizes = (past_k.shape[2], k.shape[3])
        weights = [q.new_empty(*q.shape[:4], size) for size in sizes]
        out = torch.empty_like(q)
        for part in _parts(q, sum(sizes)):
            scores = torch.cat(_compare(q[part], past_k[part], k[part]), -1)
            if bias is not None:
                scores += bias[part]
            for kept, new in zip(weights, scores.softmax(-1).split(sizes, -1), strict=True):
                kept[part] = new
            out[part] = _mix(weights[0][part], weights[1][part], past_v[part], v[part])
        ctx.save_for_backward(q, past_k, past_v, k, v, *weights, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, past_k, past_v, k, v, to_past, to_own, out = ctx.saved_tensors
        grad = grad.contiguous()
        grads = [torch.empty_like(t) for t in (q, past_k, past_v, k, v)]
        mean = (grad * out).sum(-1, keepdim=True)  # of the weights' gradients under the weights
        for part in _parts(q, to_past.shape[-1] + to_own.shape[-1]):
            grad_q, grad_past_k, grad_past_v, grad_k, grad_v = (t[part] for t in grads)
            weights = (to_past[part], to_own[part])
            _distribute(*weights, grad[part], grad_past_v, grad_v)
            scores = _compare(grad[part], past_v[part], v[part])
            for score, weight in zip(scores, weights, strict=True):
                score.sub_(mean[part]).mul_(weight)
            _distribute(*scores, q[part], grad_past_k, grad_k)
            grad_q.copy_(_mix(*scores, past_k[part], k[part]))
        return (*grads, None)


def _parts(
    q: Tensor,  # (B, N, M, Sq, D)
    num_keys: int,
) -> Iterator[slice]:
    """Cut the batch where its scores would no longer fit the cache."""
    count = max(1, SCORES // (q[0, ..., 0].numel() * num_keys))
    return (slice(start, start + count) for start in range(0, len(q), count))


def _compare(
    x: Tensor,  # (B, N, M, Sq, D)
    past: Tensor,  # (B, N, Sp, D)
    own: Tensor,  # (B, N, M, So, D)
) -> tuple[Tensor, Tensor]:
    """Return the products of x with past and own, (B, N, M, Sq, Sp) and (B, N, M, Sq, So)."""
    to_past = (x.flatten(2, 3) @ past.mT).view(*x.shape[:4], -1)
    return to_past, x @ own.mT


def _mix(
    to_past: Tensor,  # (B, N, M, Sq, Sp)
    to_own: Tensor,  # (B, N, M, Sq, So)
    past: Tensor,  # (B, N, Sp, D)
    own: Tensor,  # (B, N, M, So, D)
) -> Tensor:
    """Return past and own under these weights, summed; (B, N, M, Sq, D)."""
    out = (to_past.flatten(2, 3) @ past).view(*to_past.shape[:4], -1)
    out.flatten(0, 2).baddbmm_(to_own.flatten(0, 2), own.flatten(0, 2))
    return out


def _distribute(
    to_past: Tensor,  # (B, N, M, Sq, Sp)
    to_own: Tensor,  # (B, N, M, Sq, So)
    x: Tensor,  # (B, N, M, Sq, D)
    past: Tensor,  # (B, N, Sp, D)
    own: Tensor,  # (B, N, M, So, D)
) -> None:
    """Write x under the transposed weights to ``past`` and ``own``."""
    torch.matmul(to_past.flatten(2, 3).mT, x.flatten(2, 3), out=past)
    torch.matmul(to_own.mT, x, out=own)


class _LinearGELU(torch.autograd.Function):
    """oneDNN's linear layer with the GELU on its way out."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (..., D)
        weight: Tensor,  # (E, D)
        bias: Tensor,  # (E,)
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight, bias = ctx.saved_tensors
        hidden = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        grad = torch.ops.aten.gelu_backward(grad, hidden, approximate="tanh").flatten(0, -2)
        return (grad @ weight).view_as(x), grad.mT @ x.flatten(0, -2), grad.sum(0)


class _RMSNorm(torch.autograd.Function):
    """``F.rms_norm``, of which PyTorch records a dozen operations on CPUs."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # (..., D)
        weight: Tensor,  # (D,)
        eps: float,
    ) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = (norm.square() / x.shape[-1] + eps).rsqrt()  # of the root of the mean square, (..., 1)
        ctx.save_for_backward(x, weight, inverse)
        return _as_float(x).mul_(inverse).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        grad, normed, weight = _as_float(grad), _as_float(x).mul_(inverse), weight.float()
        product = grad * normed
        along = (product @ weight).unsqueeze(-1) / -x.shape[-1]
        grad_weight = product.flatten(0, -2).sum(0)
        grad_x = grad.mul_(weight).addcmul_(normed, along).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight.to(x.dtype), None


def _as_float(x: Tensor) -> Tensor:
    """Copy to float32."""
    return x.to(torch.float32, copy=True)
