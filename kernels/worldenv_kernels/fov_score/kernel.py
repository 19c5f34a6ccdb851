"""Many views against many views: a program keeps a few of them and walks through the points."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

VIEWS = 4
"""Views of a program; with 8 in float64, or 32 in float32, the registers spill."""
POINTS = 128
"""Points taken at once."""


@triton.jit
def _fov_score_fwd_kernel(
    p_views, p_points, p_counts, num_views, num_points, VIEWS: tl.constexpr, POINTS: tl.constexpr
):
    """Grid (blocks of views); views are (views, 10), points (3, P), counts (views) int32."""
    o_v = tl.program_id(0).to(tl.int64) * VIEWS + tl.arange(0, VIEWS)
    m_v = o_v < num_views
    # (VIEWS, 1) each
    p_view = p_views + (o_v * 10)[:, None]
    x_view = tl.load(p_view, mask=m_v[:, None], other=0.0)
    y_view = tl.load(p_view + 1, mask=m_v[:, None], other=0.0)
    z_view = tl.load(p_view + 2, mask=m_v[:, None], other=0.0)
    sine_l = tl.load(p_view + 3, mask=m_v[:, None], other=0.0)
    cosine_l = tl.load(p_view + 4, mask=m_v[:, None], other=0.0)
    sine_r = tl.load(p_view + 5, mask=m_v[:, None], other=0.0)
    cosine_r = tl.load(p_view + 6, mask=m_v[:, None], other=0.0)
    low = tl.load(p_view + 7, mask=m_v[:, None], other=0.0)
    high = tl.load(p_view + 8, mask=m_v[:, None], other=0.0)
    reach = tl.load(p_view + 9, mask=m_v[:, None], other=0.0)
    counts = tl.zeros((VIEWS,), dtype=tl.int32)
    for i_point in range(0, num_points, POINTS):
        o_p = i_point + tl.arange(0, POINTS)
        m_p = (o_p < num_points)[None, :]
        # (1, POINTS) each, then (VIEWS, POINTS)
        x = tl.load(p_points + o_p[None, :], mask=m_p, other=0.0) - x_view
        y = tl.load(p_points + num_points + o_p[None, :], mask=m_p, other=0.0) - y_view
        z = tl.load(p_points + 2 * num_points + o_p[None, :], mask=m_p, other=0.0) - z_view
        flat = x * x + z * z
        distance = tl.sqrt(flat)
        seen = m_p & (cosine_l * x - sine_l * z > 0) & (sine_r * z - cosine_r * x > 0)
        seen = seen & (-y > distance * low) & (-y < distance * high) & (flat + y * y < reach)
        counts += tl.sum(seen.to(tl.int32), 1)
    tl.store(p_counts + o_v, counts, mask=m_v)


def fov_score_fwd(
    views: Tensor,  # (B, Q, M, 10)
    points: Tensor,  # (3, P)
    counts: Tensor,  # (B, Q, M) int32, written
) -> Tensor:
    """Launch the kernel; everything contiguous."""
    grid = (triton.cdiv(counts.numel(), VIEWS),)
    # Fused products round elsewhere than PyTorch does, which would move points on a border.
    _fov_score_fwd_kernel[grid](
        views, points, counts, counts.numel(), points.shape[1], VIEWS=VIEWS, POINTS=POINTS, num_warps=4,
        enable_fp_fusion=False,
    )  # fmt: skip
    return counts
