"""Attention straight over pages: the query tile is placed anew for every page, keys and values stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..pages import SCALE_BLOCK, Pages
from ..places import Reframing
from .branch import attend_branch

LOG2_E = 1.4426950408889634
DOT_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


@triton.jit
def _memory_attention_fwd_kernel(
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
    num_slots,
    num_frames,
    num_tokens,
    num_heads,
    scale_log2,
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
    """Grid (latents x query tiles, heads, envs x branches); queries (B, F, S, FORMS, N, D), out (B, F, S, R, N, D)."""
    i_env = tl.program_id(2) // BRANCHES
    i_frame = tl.program_id(0) % num_frames
    i_tile = tl.program_id(0) // num_frames
    # Written twice: as one call in an unrolled loop 880 tokens of 128 channels spill (``worldenv_kernels.aot``).
    if tl.program_id(2) % BRANCHES == 0:
        attend_branch(
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
            tl.program_id(1),
            i_env,
            num_slots,
            num_frames,
            num_tokens,
            num_heads,
            scale_log2,
            False,
            HEAD_DIM,
            FORMS,
            BRANCHES,
            INT8,
            SPACE,
            SCALE_BLOCK,
            TMA,
            DOT,
            BM,
            BN,
        )
    elif BRANCHES == 2:
        attend_branch(
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
            tl.program_id(1),
            i_env,
            num_slots,
            num_frames,
            num_tokens,
            num_heads,
            scale_log2,
            True,
            HEAD_DIM,
            FORMS,
            BRANCHES,
            INT8,
            SPACE,
            SCALE_BLOCK,
            TMA,
            DOT,
            BM,
            BN,
        )


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a program is cut and pipelined."""

    block_m: int
    """Query tokens of a program, all of one latent."""
    block_n: int
    """Tokens of a page taken at once."""
    num_warps: int = 4
    """Warps of a program."""
    num_stages: int = 2
    """Loads in flight."""


def tile_for(tokens: int, head_dim: int, *, quantised: bool, turned: bool, tma: bool) -> Tile:
    """Return a tile that fits Hopper's registers without spills, for latents of this many tokens.

    ``quantised`` keys and keys that are ``turned`` on reading pass through registers, which wide heads fill.
    """
    block_n = max(32 if quantised else 16, min(64, triton.next_power_of_2(tokens)))
    if (quantised or turned) and head_dim == 128:
        return Tile(block_m=64, block_n=block_n, num_warps=8)
    if tokens <= 64:
        return Tile(block_m=64, block_n=block_n, num_warps=4 if tma or head_dim < 128 else 8)
    return Tile(block_m=128, block_n=block_n, num_warps=8, num_stages=3 if tma else 2)


def descriptor(
    pages: Tensor,  # (P, S, ...)
    block_n: int,
    head_dim: int,
) -> TensorDescriptor:
    """Describe pages to the tensor memory accelerator: (1, block_n, head_dim) boxes of (P, S, all channels)."""
    flat = pages.flatten(2)
    return TensorDescriptor(flat, list(flat.shape), list(flat.stride()), [1, block_n, head_dim])


def memory_attention_fwd(
    q: Tensor,  # (B, F, S, forms, N, D)
    pages: Pages,
    reframing: Reframing,
    out: Tensor,  # (B, F, S, R, N, D), written
    *,
    tma: bool,
    tile: Tile | None = None,
) -> Tensor:
    """Launch the kernel; everything contiguous, shapes as checked by ``memory_attention``."""
    batch, frames, tokens, forms, heads, head_dim = q.shape
    branches, slots = reframing.num_branches, reframing.table.shape[1]
    turned = reframing.space is not None
    tile = tile or tile_for(tokens, head_dim, quantised=pages.quantised, turned=turned, tma=tma)
    keys: Any = pages.keys
    values: Any = pages.values
    if tma:
        keys, values = (descriptor(t, tile.block_n, head_dim) for t in (pages.keys, pages.values))
    none = reframing.cosine  # stands in where a table is not read
    cameras = (reframing.relative, reframing.change, reframing.last)
    optional = (*cameras, pages.mean, pages.scale, *(reframing.space or (None, None)))
    grid = (frames * triton.cdiv(tokens, tile.block_m), heads, batch * branches)
    _memory_attention_fwd_kernel[grid](
        q,
        keys,
        values,
        out,
        reframing.table,
        reframing.cosine,
        reframing.sine,
        *(none if t is None else t for t in optional),
        slots,
        frames,
        tokens,
        heads,
        head_dim**-0.5 * LOG2_E,
        HEAD_DIM=head_dim,
        FORMS=forms,
        BRANCHES=branches,
        INT8=pages.quantised,
        SPACE=turned,
        SCALE_BLOCK=SCALE_BLOCK,
        TMA=tma,
        DOT=tl.float32 if triton.knobs.runtime.interpret else DOT_TYPES[q.dtype],
        BM=tile.block_m,
        BN=tile.block_n,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        enable_fp_fusion=True,
    )
    return out


def has_tma(tensor: Tensor) -> bool:
    """Tell whether the tensor's GPU has a tensor memory accelerator; the interpreter imitates one."""
    return not tensor.is_cuda or torch.cuda.get_device_capability(tensor.device) >= (9, 0)
