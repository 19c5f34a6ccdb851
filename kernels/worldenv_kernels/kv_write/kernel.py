"""QK norm, rows and columns, and the way into the pages, in one pass over what the projection returned."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..pages import SCALE_BLOCK, Pages
from ..quarters import load_quarters, store_quarters, turn_quarters


@triton.jit
def _norm_scale(a, b, c, d, width, eps):
    """Return 1 / RMS over all heads of a token."""
    squares = tl.sum(a * a + b * b + c * c + d * d)
    return tl.rsqrt(squares / width + eps)


@triton.jit
def _kv_write_fwd_kernel(
    p_qkv, p_wq, p_wk, p_cos, p_sin, p_slots, p_q, p_k, p_v, num_tokens, num_heads, eps,
    HEAD_DIM: tl.constexpr, FORMS: tl.constexpr, TURNED: tl.constexpr, STAGED: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Grid (tokens, latents): a program takes a token with all its heads. STAGED keys stay in the order of latents."""
    G: tl.constexpr = HEAD_DIM // 4
    width = num_heads * HEAD_DIM
    i_latent = tl.program_id(1).to(tl.int64)
    i_token = tl.program_id(0)
    i_row = i_latent * num_tokens + i_token
    i_page = tl.load(p_slots + i_latent).to(tl.int64)
    o_h = tl.arange(0, HEADS)
    m_h = o_h < num_heads
    o_head = o_h * HEAD_DIM
    o_g = tl.arange(0, G)
    if TURNED:
        # (1, G) each
        o_angle = i_token * (2 * G) + o_g[None, :]
        c0, s0 = tl.load(p_cos + o_angle), tl.load(p_sin + o_angle)
        c1, s1 = tl.load(p_cos + o_angle + G), tl.load(p_sin + o_angle + G)

    # (HEADS, G) each
    a, b, c, d = load_quarters(p_qkv + i_row * 3 * width, o_head, m_h, o_g, G)
    e, f, g, h = load_quarters(p_wq, o_head, m_h, o_g, G)
    scale = _norm_scale(a, b, c, d, width, eps)
    a, b, c, d = a * scale * e, b * scale * f, c * scale * g, d * scale * h
    p_row = p_q + i_row * FORMS * width
    if FORMS == 2:
        store_quarters(p_row + width, a, b, c, d, o_head, m_h, o_g, G)
    if TURNED:
        a, b, c, d = turn_quarters(a, b, c, d, c0, s0, c1, s1)
    store_quarters(p_row, a, b, c, d, o_head, m_h, o_g, G)

    if i_page >= 0:
        a, b, c, d = load_quarters(p_qkv + (i_row * 3 + 1) * width, o_head, m_h, o_g, G)
        e, f, g, h = load_quarters(p_wk, o_head, m_h, o_g, G)
        scale = _norm_scale(a, b, c, d, width, eps)
        a, b, c, d = a * scale * e, b * scale * f, c * scale * g, d * scale * h
        i_stored = i_page * num_tokens + i_token
        p_row = p_k + (i_row if STAGED else i_stored) * FORMS * width
        if FORMS == 2:
            store_quarters(p_row + width, a, b, c, d, o_head, m_h, o_g, G)
        if TURNED:
            a, b, c, d = turn_quarters(a, b, c, d, c0, s0, c1, s1)
        store_quarters(p_row, a, b, c, d, o_head, m_h, o_g, G)

        a, b, c, d = load_quarters(p_qkv + (i_row * 3 + 2) * width, o_head, m_h, o_g, G)
        store_quarters(p_v + i_stored * width, a, b, c, d, o_head, m_h, o_g, G)


@triton.jit
def _quantise_fwd_kernel(
    p_staged, p_slots, p_k, p_mean, p_scale, num_tokens, num_columns,
    HEAD_DIM: tl.constexpr, SCALE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (forms x heads, latents): a program takes a head of a page, first its mean, then block by block."""
    i_column = tl.program_id(0)  # form and head
    i_latent = tl.program_id(1).to(tl.int64)
    i_page = tl.load(p_slots + i_latent).to(tl.int64)
    o_s = tl.arange(0, SCALE_BLOCK)
    o_d = tl.arange(0, HEAD_DIM)
    stride = num_columns * HEAD_DIM
    o_head = o_s[:, None] * stride + i_column * HEAD_DIM + o_d[None, :]
    p_staged += i_latent * num_tokens * stride
    p_k += i_page * num_tokens * stride
    if i_page >= 0:
        mean = tl.zeros((HEAD_DIM,), dtype=tl.float32)
        for i_token in range(0, num_tokens, SCALE_BLOCK):
            m_s = (i_token + o_s < num_tokens)[:, None]
            # (SCALE_BLOCK, HEAD_DIM)
            mean += tl.sum(tl.load(p_staged + i_token * stride + o_head, mask=m_s, other=0.0).to(tl.float32), 0)
        mean = mean / num_tokens
        tl.store(p_mean + (i_page * num_columns + i_column) * HEAD_DIM + o_d, mean)
        num_blocks = tl.cdiv(num_tokens, SCALE_BLOCK)
        for i_token in range(0, num_tokens, SCALE_BLOCK):
            m_s = (i_token + o_s < num_tokens)[:, None]
            # (SCALE_BLOCK, HEAD_DIM)
            rest = tl.load(p_staged + i_token * stride + o_head, mask=m_s, other=0.0).to(tl.float32) - mean[None, :]
            scale = tl.maximum(tl.max(tl.where(m_s, tl.abs(rest), 0.0)), 1e-12) / 127
            steps = tl.minimum(tl.maximum(tl.floor(rest / scale + 0.5), -127.0), 127.0)
            tl.store(p_k + i_token * stride + o_head, steps.to(tl.int8), mask=m_s)
            i_block = i_page * num_blocks + i_token // SCALE_BLOCK
            tl.store(p_scale + i_block * num_columns + i_column, scale)


def kv_write_fwd(
    qkv: Tensor,  # (B, F, S, 3, N, D)
    weight_q: Tensor,  # (N D)
    weight_k: Tensor,  # (N D)
    pages: Pages,  # written
    slots: Tensor,  # (B, F) int32
    space: tuple[Tensor, Tensor] | None,  # each (S, D / 2)
    q: Tensor,  # (B, F, S, forms, N, D), written
    *,
    eps: float,
) -> Tensor:
    """Launch the kernels; everything contiguous, shapes as checked by ``kv_write``."""
    batch, frames, tokens, _, heads, head_dim = qkv.shape
    staged = torch.empty_like(q) if pages.quantised else pages.keys
    _kv_write_fwd_kernel[(tokens, batch * frames)](
        qkv, weight_q, weight_k, *(space or (weight_q, weight_q)), slots, q, staged, pages.values, tokens, heads, eps,
        HEAD_DIM=head_dim, FORMS=pages.forms, TURNED=space is not None, STAGED=pages.quantised,
        HEADS=triton.next_power_of_2(heads), num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
    if pages.quantised:
        columns = pages.forms * heads
        _quantise_fwd_kernel[(columns, batch * frames)](
            staged, slots, pages.keys, pages.mean, pages.scale, tokens, columns,
            HEAD_DIM=head_dim, SCALE_BLOCK=SCALE_BLOCK, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return q
