"""Field-of-view overlap: the kernel and its definition count what the memory's own search counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldenv.geometry.pose import rotation_pitch, rotation_yaw
from worldenv.memory.retrieval import ball_points, count_seen, own_view, polynomials
from worldenv_kernels import fov_score


def cameras(*shape: int, seed: int, level: bool) -> Tensor:
    torch.manual_seed(seed)
    c2w = torch.eye(4, dtype=torch.float64).repeat(*shape, 1, 1)
    yaw = (torch.rand(*shape, dtype=torch.float64) - 0.5) * 7
    pitch = torch.zeros_like(yaw) if level else torch.randn_like(yaw) * 0.6
    c2w[..., :3, :3] = rotation_yaw(yaw) @ rotation_pitch(pitch)
    c2w[..., :3, 3] = 2 * torch.randn(*shape, 3, dtype=torch.float64)
    return c2w


def expected(query: Tensor, history: Tensor, points: Tensor, fov_deg: tuple[float, float], radius: float) -> Tensor:
    """Count with the memory's own expression, (B, Q, M)."""
    both = torch.broadcast_tensors(query[:, :, None], history[:, None])
    pairs = (t.reshape(-1, 4, 4) for t in both)
    counts = count_seen(*pairs, polynomials(points), fov_deg=fov_deg, radius=radius)
    return counts.view(both[0].shape[:3])


@pytest.mark.parametrize("fov_deg", [(60.0, 35.0), (90.0, 90.0), (120.0, 110.0)])
@pytest.mark.parametrize("level", [False, True])
def test_counts_are_the_memorys(triton: None, fov_deg: tuple[float, float], level: bool) -> None:
    points = own_view(ball_points(2000, radius=8.0), fov_deg)[:333]
    query, history = cameras(2, 3, seed=1, level=level), cameras(2, 11, seed=2, level=level)
    history[:, 0] = query[:, 0]  # a view of one's own
    counts = expected(query, history, points, fov_deg, 8.0)
    assert 0 < (counts > 0).double().mean() < 1
    for backend in ("triton", "torch"):
        found = fov_score(query, history, points, fov_deg=fov_deg, backend=backend) * len(points)
        assert torch.equal(found.round().long(), counts), backend
    assert (counts[:, 0, 0] == len(points)).all()


def test_float32_points_differ_by_a_border(triton: None) -> None:
    points = own_view(ball_points(4000, radius=8.0), (60.0, 35.0))
    query, history = cameras(1, 2, seed=3, level=False), cameras(1, 9, seed=4, level=False)
    found = fov_score(query, history, points.float(), backend="triton") * len(points)
    assert (found - expected(query, history, points, (60.0, 35.0), 8.0)).abs().max() <= 1


def test_errors_say_what_to_do() -> None:
    eye = torch.eye(4)[None, None]
    with pytest.raises(ValueError, match="at least one point"):
        fov_score(eye, eye, torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"\(B, Q, 4, 4\)"):
        fov_score(eye[0], eye, torch.zeros(1, 3))
