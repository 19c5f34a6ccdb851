"""Triton kernels for a generated world's memory, each beside the plain PyTorch that defines it.

Shapes: B env, F latent of the chunk that asks, M slot of its context, P page of the pool (one latent), S token of a
latent, N head, D channel of a head, R branch (0 RoPE, 1 cameras). Heads are component-major: four quarters a, b, c, d,
so that RoPE's pairs are (a, b) and (c, d) and a group of four is one channel of each quarter.
"""

from .memory_attention.op import memory_attention
from .pages import Pages, make_pages
from .places import Places, Reframing, reframe, space_table
from .reframe_gather.op import reframe_gather

__all__ = [
    "Pages",
    "Places",
    "Reframing",
    "make_pages",
    "memory_attention",
    "reframe",
    "reframe_gather",
    "space_table",
]
