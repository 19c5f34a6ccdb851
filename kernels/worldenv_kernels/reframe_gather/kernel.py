"""Pages to contiguous keys and values, placed: one program per block of a page's tokens, head and branch."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..pages import SCALE_BLOCK, Pages
from ..places import Reframing
from ..quarters import load_quarters, mix_quarters, store_quarters, turn_slot, turn_tokens
from .ref import slot_angles, slot_matrix

BLOCK = 32
"""Tokens of a program."""


@triton.jit
def _reframe_gather_fwd_kernel(
    p_k,
    p_v,
    p_keys,
    p_values,
    p_table,
    p_cos,
    p_sin,
    p_matrix,
    p_mean,
    p_scale,
    p_space_cos,
    p_space_sin,
    num_slots,
    num_tokens,
    num_heads,
    HEAD_DIM: tl.constexpr,
    FORMS: tl.constexpr,
    BRANCHES: tl.constexpr,
    INT8: tl.constexpr,
    SPACE: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid (slots x token blocks, branches x heads, envs); keys and values out are (B, R N, M S, D)."""
    G: tl.constexpr = HEAD_DIM // 4
    num_blocks = tl.cdiv(num_tokens, BLOCK)
    i_slot = tl.program_id(0) // num_blocks
    i_branch = tl.program_id(1) // num_heads
    i_head = tl.program_id(1) % num_heads
    i_form = tl.minimum(i_branch, FORMS - 1)
    i_env = tl.program_id(2).to(tl.int64)
    i_seen = i_env * num_slots + i_slot
    o_g = tl.arange(0, G)
    o_s = (tl.program_id(0) % num_blocks) * BLOCK + tl.arange(0, BLOCK)
    m_s = o_s < num_tokens
    i_page = tl.load(p_table + i_seen).to(tl.int64)
    m_page = m_s & (i_page >= 0)
    i_token = tl.maximum(i_page, 0) * num_tokens + o_s
    o_k = ((i_token * FORMS + i_form) * num_heads + i_head) * HEAD_DIM
    o_v = (i_token * num_heads + i_head) * HEAD_DIM
    # (BLOCK, G) each, zeros for an empty slot
    a, b, c, d = load_quarters(p_k, o_k, m_page, o_g, G)
    e, f, g, h = load_quarters(p_v, o_v, m_page, o_g, G)
    if INT8:
        i_block = tl.maximum(i_page, 0) * tl.cdiv(num_tokens, SCALE_BLOCK) + o_s // SCALE_BLOCK
        # (BLOCK, 1) and (1, G) each
        scale = tl.load(p_scale + (i_block * FORMS + i_form) * num_heads + i_head, mask=m_page, other=0.0)[:, None]
        o_mean = ((tl.maximum(i_page, 0) * FORMS + i_form) * num_heads + i_head) * HEAD_DIM + o_g[None, :]
        m_mean = m_page[:, None]
        a = a * scale + tl.load(p_mean + o_mean, mask=m_mean, other=0.0)
        b = b * scale + tl.load(p_mean + o_mean + G, mask=m_mean, other=0.0)
        c = c * scale + tl.load(p_mean + o_mean + 2 * G, mask=m_mean, other=0.0)
        d = d * scale + tl.load(p_mean + o_mean + 3 * G, mask=m_mean, other=0.0)
    if i_branch == 0:
        if SPACE:
            a, b, c, d = turn_tokens(a, b, c, d, p_space_cos, p_space_sin, o_s, m_s, o_g, G)
        a, b, c, d = turn_slot(a, b, c, d, p_cos, p_sin, i_seen, o_g, G)
    else:
        a, b, c, d = mix_quarters(a, b, c, d, p_matrix + i_seen * 16)
        e, f, g, h = mix_quarters(e, f, g, h, p_matrix + i_seen * 16)
    i_head_out = i_env * (BRANCHES * num_heads) + tl.program_id(1)
    o_out = (i_head_out * (num_slots * num_tokens) + i_slot * num_tokens + o_s) * HEAD_DIM
    store_quarters(p_keys, a, b, c, d, o_out, m_s, o_g, G)
    store_quarters(p_values, e, f, g, h, o_out, m_s, o_g, G)


def reframe_gather_fwd(
    pages: Pages,
    reframing: Reframing,
    keys: Tensor,  # (B, R N, M S, D), written
    values: Tensor,  # (B, R N, M S, D), written
) -> tuple[Tensor, Tensor]:
    """Launch the kernel; everything contiguous, shapes as checked by ``reframe_gather``."""
    batch, slots = reframing.table.shape
    _, tokens, forms, heads, head_dim = pages.keys.shape
    branches = reframing.num_branches
    cosine, sine = (t.float().contiguous() for t in slot_angles(reframing))
    matrix = slot_matrix(reframing).float().contiguous() if branches == 2 else cosine
    optional = (pages.mean, pages.scale, *(reframing.space or (None, None)))
    grid = (slots * triton.cdiv(tokens, BLOCK), branches * heads, batch)
    _reframe_gather_fwd_kernel[grid](
        pages.keys,
        pages.values,
        keys,
        values,
        reframing.table,
        cosine,
        sine,
        matrix,
        *(cosine if t is None else t for t in optional),
        slots,
        tokens,
        heads,
        HEAD_DIM=head_dim,
        FORMS=forms,
        BRANCHES=branches,
        INT8=pages.quantised,
        SPACE=reframing.space is not None,
        SCALE_BLOCK=SCALE_BLOCK,
        BLOCK=BLOCK,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return keys, values
