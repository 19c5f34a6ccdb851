"""What a program does: one tile of queries in one branch, over all pages of its env, with a running softmax."""

from __future__ import annotations

import triton
import triton.language as tl

from ..quarters import join_quarters, load_quarters, mix_quarters, split_quarters, turn_slot, turn_tokens


@triton.jit
def _placed_queries(
    p_q,
    p_cos,
    p_sin,
    p_relative,
    p_space_cos,
    p_space_sin,
    o_q,
    o_s,
    m_s,
    o_g,
    i_seen,
    CAMERA: tl.constexpr,
    SPACE: tl.constexpr,
    G: tl.constexpr,
):
    """Return the query tile as a page wants it, (BM, G) each: in its camera's frame, or turned by place and time."""
    a, b, c, d = load_quarters(p_q, o_q, m_s, o_g, G)
    if CAMERA:
        a, b, c, d = mix_quarters(a, b, c, d, p_relative + i_seen * 16)
    else:
        if SPACE:
            a, b, c, d = turn_tokens(a, b, c, d, p_space_cos, p_space_sin, o_s, m_s, o_g, G)
        a, b, c, d = turn_slot(a, b, c, d, p_cos, p_sin, i_seen, o_g, G)
    return a, b, c, d


@triton.jit
def _load_tokens(
    p_k,
    p_v,
    i_page,
    i_token,
    i_column,
    i_head,
    num_tokens,
    num_heads,
    o_n,
    o_d,
    m_n,
    HEAD_DIM: tl.constexpr,
    FORMS: tl.constexpr,
    TMA: tl.constexpr,
    BN: tl.constexpr,
):
    """Return keys and values of some of a page's tokens, (BN, HEAD_DIM) each, zeros beyond the page."""
    if TMA:
        k = tl.reshape(p_k.load([i_page, i_token, i_column]), (BN, HEAD_DIM))
        v = tl.reshape(p_v.load([i_page, i_token, i_head * HEAD_DIM]), (BN, HEAD_DIM))
    else:
        i_kv = i_page.to(tl.int64) * num_tokens + i_token + o_n
        o_k = i_kv[:, None] * (FORMS * num_heads * HEAD_DIM) + i_column + o_d[None, :]
        o_v = (i_kv[:, None] * num_heads + i_head) * HEAD_DIM + o_d[None, :]
        k = tl.load(p_k + o_k, mask=m_n[:, None], other=0)
        v = tl.load(p_v + o_v, mask=m_n[:, None], other=0)
    return k, v


@triton.jit
def _turned_keys(
    k,
    p_space_cos,
    p_space_sin,
    o_token,
    m_n,
    o_g,
    SPACE: tl.constexpr,
    DOT: tl.constexpr,
    G: tl.constexpr,
    BN: tl.constexpr,
):
    """Return keys (BN, HEAD_DIM) turned by row and column, where that was not done when they were written."""
    if SPACE:
        a, b, c, d = split_quarters(k.to(tl.float32), BN, G)
        a, b, c, d = turn_tokens(a, b, c, d, p_space_cos, p_space_sin, o_token, m_n, o_g, G)
        k = join_quarters(a, b, c, d, BN, G)
    return k.to(DOT)


@triton.jit
def attend_branch(
    p_q,
    p_k,
    p_v,
    p_out,
    p_table,
    p_cos,
    p_sin,
    p_relative,
    p_change,
    p_last,
    p_mean,
    p_scale,
    p_space_cos,
    p_space_sin,
    i_tile,
    i_frame,
    i_head,
    i_env,
    num_slots,
    num_frames,
    num_tokens,
    num_heads,
    scale_log2,
    CAMERA: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FORMS: tl.constexpr,
    BRANCHES: tl.constexpr,
    INT8: tl.constexpr,
    SPACE: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    TMA: tl.constexpr,
    DOT: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    G: tl.constexpr = HEAD_DIM // 4
    FORM: tl.constexpr = FORMS - 1 if CAMERA else 0
    o_g = tl.arange(0, G)
    o_n = tl.arange(0, BN)
    o_d = tl.arange(0, HEAD_DIM)
    o_s = i_tile * BM + tl.arange(0, BM)
    m_s = o_s < num_tokens
    i_query = i_env.to(tl.int64) * num_frames + i_frame
    i_row = i_query * num_tokens + o_s
    o_q = (i_row * FORMS + FORM) * num_heads * HEAD_DIM + i_head * HEAD_DIM
    i_column = (FORM * num_heads + i_head) * HEAD_DIM

    acc = tl.zeros((BM, HEAD_DIM), dtype=tl.float32)
    peak = tl.full((BM,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    for i_slot in range(num_slots):
        i_page = tl.load(p_table + i_env * num_slots + i_slot)
        if i_page >= 0:
            i_seen = i_query * num_slots + i_slot
            if CAMERA:
                # (BM, G) each: from the frame of the last page to this one's
                a, b, c, d = split_quarters(acc, BM, G)
                a, b, c, d = mix_quarters(a, b, c, d, p_change + (i_env.to(tl.int64) * num_slots + i_slot) * 16)
                acc = join_quarters(a, b, c, d, BM, G)
            a, b, c, d = _placed_queries(
                p_q, p_cos, p_sin, p_relative, p_space_cos, p_space_sin, o_q, o_s, m_s, o_g, i_seen, CAMERA, SPACE, G
            )
            q = join_quarters(a, b, c, d, BM, G) * scale_log2
            if INT8:
                # (1, G) each: the page's mean enters once, exactly
                o_mean = (i_page.to(tl.int64) * FORMS + FORM) * num_heads * HEAD_DIM + i_head * HEAD_DIM + o_g[None, :]
                along = a * tl.load(p_mean + o_mean) + b * tl.load(p_mean + o_mean + G)
                along += c * tl.load(p_mean + o_mean + 2 * G) + d * tl.load(p_mean + o_mean + 3 * G)
                q_mean = tl.sum(along, 1) * scale_log2
                q_scale = tl.maximum(tl.max(tl.abs(q), 1), 1e-12) / 127
                q_tile = tl.floor(q / q_scale[:, None] + 0.5).to(tl.int8)
            else:
                q_tile = q.to(DOT)

            for i_token in range(0, num_tokens, BN):
                m_n = i_token + o_n < num_tokens
                k, v = _load_tokens(
                    p_k,
                    p_v,
                    i_page,
                    i_token,
                    i_column,
                    i_head,
                    num_tokens,
                    num_heads,
                    o_n,
                    o_d,
                    m_n,
                    HEAD_DIM,
                    FORMS,
                    TMA,
                    BN,
                )
                if INT8:
                    # (BN,)
                    i_block = i_page.to(tl.int64) * tl.cdiv(num_tokens, SCALE_BLOCK) + (i_token + o_n) // SCALE_BLOCK
                    o_scale = (i_block * FORMS + FORM) * num_heads + i_head
                    k_scale = tl.load(p_scale + o_scale, mask=m_n, other=0.0)
                    scores = tl.dot(q_tile, tl.trans(k)).to(tl.float32)
                    scores = scores * (q_scale[:, None] * k_scale[None, :]) + q_mean[:, None]
                else:
                    k = _turned_keys(
                        k, p_space_cos, p_space_sin, i_token + o_n, m_n, o_g, SPACE and not CAMERA, DOT, G, BN
                    )
                    scores = tl.dot(q_tile, tl.trans(k))
                scores = tl.where(m_n[None, :], scores, float("-inf"))
                higher = tl.maximum(peak, tl.max(scores, 1))
                weights = tl.exp2(scores - higher[:, None])
                fade = tl.exp2(peak - higher)
                total = total * fade + tl.sum(weights, 1)
                acc = tl.dot(weights.to(DOT), v.to(DOT), acc * fade[:, None])
                peak = higher

    acc = acc / tl.where(total > 0, total, 1.0)[:, None]
    if CAMERA:
        a, b, c, d = split_quarters(acc, BM, G)
        a, b, c, d = mix_quarters(a, b, c, d, p_last + i_query * 16)
        acc = join_quarters(a, b, c, d, BM, G)
        o_out = (i_row * BRANCHES + BRANCHES - 1) * num_heads * HEAD_DIM + i_head * HEAD_DIM
    else:
        o_out = i_row * BRANCHES * num_heads * HEAD_DIM + i_head * HEAD_DIM
    tl.store(p_out + o_out[:, None] + o_d[None, :], acc.to(p_out.dtype.element_ty), mask=m_s[:, None])
