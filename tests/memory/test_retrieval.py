import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from worldenv.geometry.pose import invert_se3, look
from worldenv.memory.retrieval import ball_points, fov_overlap, in_view

FIXTURES = Path(__file__).resolve().parents[3] / "shared/fixtures/worldplay_reference"


def camera(x: float = 0, y: float = 0, z: float = 0, yaw_deg: float = 0, pitch_deg: float = 0) -> torch.Tensor:
    angles = (math.radians(yaw_deg), math.radians(pitch_deg))
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([x, y, z], *angles)))


def slow_overlap(
    query: np.ndarray, history: np.ndarray, points: np.ndarray, fov_deg: tuple[float, float], radius: float
) -> float:
    """The reference's formula over all points, one view pair, straight from its text (worldplay-reference 2.2)."""
    relative = np.linalg.inv(query) @ history

    def sees(c2w: np.ndarray) -> np.ndarray:
        d, f = points - c2w[:3, 3], c2w[:3, 2]
        yaw, pitch = math.atan2(f[0], f[2]), math.atan2(f[1], math.hypot(f[0], f[2]))

        def wrap(a: np.ndarray) -> np.ndarray:
            return np.arctan2(np.sin(a), np.cos(a))

        h = np.abs(wrap(np.arctan2(d[:, 0], d[:, 2]) - yaw))
        v = np.abs(wrap(np.arctan2(d[:, 1], np.hypot(d[:, 0], d[:, 2])) - pitch))
        return (h < math.radians(fov_deg[0]) / 2) & (v < math.radians(fov_deg[1]) / 2)

    in_query = sees(np.eye(4))
    in_history = sees(relative) & (np.linalg.norm(points - relative[:3, 3], axis=1) < radius)
    return float((in_query & in_history).sum() / in_query.sum())


def random_cameras(count: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    rows = zip(*rng.uniform(-3, 3, (3, count)), rng.uniform(-180, 180, count), rng.uniform(-40, 40, count), strict=True)
    return torch.stack([camera(*row) for row in rows])


@pytest.mark.parametrize(("fov_deg", "radius"), [((60.0, 35.0), 8.0), ((84.0, 64.0), 6.0), ((130.0, 100.0), 4.0)])
def test_overlap_equals_the_slow_formula_over_all_points(fov_deg: tuple[float, float], radius: float) -> None:
    points = ball_points(3000, radius=radius, seed=1)
    query, history = random_cameras(3, 0), random_cameras(12, 1)
    found = fov_overlap(query, history, points, fov_deg=fov_deg, radius=radius)
    wanted = [[slow_overlap(q.numpy(), h.numpy(), points.numpy(), fov_deg, radius) for h in history] for q in query]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)
    assert 0 < found.max() <= 1


def test_points_outside_the_querys_view_change_nothing() -> None:
    points = ball_points(4000, radius=8.0, seed=2)
    zero = torch.zeros((), dtype=torch.float64)
    inside = points[in_view(points, zero, zero, fov_deg=(60, 35))]
    assert 0 < len(inside) < 0.1 * len(points)
    query, history = random_cameras(2, 3), random_cameras(9, 4)
    assert torch.equal(fov_overlap(query, history, points), fov_overlap(query, history, inside))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (camera(z=1.6), 0.523),
        (camera(z=-1.6), 0.548),
        (camera(yaw_deg=30), 0.499),
        (camera(yaw_deg=-30), 0.499),
        (camera(yaw_deg=90), 0.0),
        (camera(), 1.0),
    ],
)
def test_reference_values(history: torch.Tensor, expected: float) -> None:
    points = ball_points(50_000, radius=8.0)
    found = float(fov_overlap(camera()[None], history[None], points, fov_deg=(60, 35), radius=8.0))
    assert found == pytest.approx(expected, abs=0.03)


def test_overlap_depends_on_relative_cameras_only() -> None:
    """A yaw and a shift of the whole world change nothing (a roll would: views are boxes in yaw and pitch)."""
    query, history, points = random_cameras(2, 5), random_cameras(6, 6), ball_points(2000, radius=8.0)
    moved = camera(40, -3, 7, yaw_deg=123)
    expected = fov_overlap(query, history, points)
    torch.testing.assert_close(fov_overlap(moved @ query, moved @ history, points), expected, atol=2e-3, rtol=0)


def test_batch_axes_are_kept() -> None:
    query, history = random_cameras(6, 7).view(2, 3, 4, 4), random_cameras(10, 8).view(2, 5, 4, 4)
    points = ball_points(1000, radius=8.0)
    found = fov_overlap(query, history, points)
    assert found.shape == (2, 3, 5)
    assert torch.equal(found[1], fov_overlap(query[1], history[1], points))


def test_too_few_points_are_an_error() -> None:
    with pytest.raises(ValueError, match="more points"):
        fov_overlap(camera()[None], camera()[None], torch.tensor([[0.0, 0, -1]], dtype=torch.float64))


def test_ball_points_fill_the_ball_evenly() -> None:
    points = ball_points(20_000, radius=3.0, seed=0)
    distance = points.norm(dim=-1)
    assert float(distance.max()) <= 3.0
    assert float((distance < 1.5).double().mean()) == pytest.approx(1 / 8, abs=0.01)
    assert float(points.mean(0).abs().max()) < 0.05
    assert torch.equal(points, ball_points(20_000, radius=3.0, seed=0))
    assert not torch.equal(points, ball_points(20_000, radius=3.0, seed=1))


def test_selects_the_chunks_that_the_reference_selected() -> None:
    """Golden test: nine chunks whose camera turns away and back; 12 recent latents plus the best older chunk."""
    if not FIXTURES.is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    golden = load_file(FIXTURES / "rollout.safetensors")
    c2w = invert_se3(golden["w2c"][0].double())
    points = golden["memory_points"].double()
    retrieved = set()
    for start, row in zip(golden["selected_at"].tolist(), golden["selected"].tolist(), strict=True):
        wanted = [i for i in row if i >= 0]
        if start < 16:
            assert wanted == list(range(start))
            continue
        candidates = range(0, start - 12, 4)
        views = torch.stack([c2w[[h, h + 2]] for h in candidates]).flatten(0, 1)
        score = fov_overlap(c2w[start : start + 4], views, points).mean(0).view(-1, 2).mean(1)
        best = 4 * int(score.argmax())
        retrieved.add(best)
        assert wanted == [*range(best, best + 4), *range(start - 12, start)], start
    assert len(retrieved) > 1
