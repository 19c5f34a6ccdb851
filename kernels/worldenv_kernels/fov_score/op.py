"""Field-of-view overlap for many envs and many candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import choose
from .ref import fov_score_ref, view_parameters


def fov_score(
    query_c2w: Tensor,  # (B, Q, 4, 4)
    history_c2w: Tensor,  # (B, M, 4, 4)
    points: Tensor,  # (P, 3)
    *,
    fov_deg: tuple[float, float] = (60, 35),
    radius: float = 8.0,
    backend: str = "auto",
) -> Tensor:
    """Return the share of the points that each history view sees too, (B, Q, M) in [0, 1], in the dtype of points.

    Poses are compared in their own dtype, points in theirs; float32 points may fall on the other side of a border than
    float64 ones.

    Args:
        query_c2w: views that ask.
        history_c2w: views of the same envs that answer.
        points: offsets in a query's frame, all in its view.
        fov_deg: horizontal and vertical field of view, below 180.
        radius: metres beyond which a view sees nothing.
        backend: ``auto``, ``triton`` or ``torch``.
    """
    if query_c2w.ndim != 4 or history_c2w.ndim != 4 or len(query_c2w) != len(history_c2w):
        raise ValueError(
            f"query_c2w is {tuple(query_c2w.shape)}, history_c2w {tuple(history_c2w.shape)}; "
            "expected (B, Q, 4, 4) and (B, M, 4, 4)"
        )
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"points is {tuple(points.shape)}, expected (P, 3) with at least one point")
    if choose(backend, points) == "torch":
        counts = fov_score_ref(query_c2w, history_c2w, points, fov_deg=fov_deg, radius=radius)
    else:
        from .kernel import fov_score_fwd

        views = view_parameters(query_c2w, history_c2w, fov_deg=fov_deg, radius=radius).to(points.dtype).contiguous()
        counts = torch.empty(views.shape[:3], dtype=torch.int32, device=points.device)
        fov_score_fwd(views, points.mT.contiguous(), counts)
    return counts.to(points.dtype) / len(points)
