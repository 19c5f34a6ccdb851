"""The gate, farthest points and likeness against plain transcriptions of their formulas."""

import math

import numpy as np
import pytest
import torch

from worldenv.geometry.pose import look
from worldenv.memory.pool import MAX_GAIN, NOISE, farthest_points, information_gain, offsets, pose_kernel, similarity

SCALE = {"scale": 2.0, "scale_deg": 37.5}


def poses(*where: tuple[float, float, float]) -> torch.Tensor:
    """Cameras at (x, z) that look along a yaw in degrees."""
    rows = [look(torch.tensor([x, 0.0, z]).double(), torch.tensor(math.radians(yaw)).double()) for x, z, yaw in where]
    return torch.stack(rows)


def some(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return poses(*[tuple(row) for row in rng.uniform([-3, -3, -180], [3, 3, 180], (count, 3))])


def test_offsets_are_metres_and_angles() -> None:
    distance, angle = offsets(poses((0, 0, 0)), poses((3, 4, 90), (0, 0, 0), (0, 1, 180)))
    assert distance[0].tolist() == pytest.approx([5, 0, 1])
    assert angle[0].rad2deg().tolist() == pytest.approx([90, 0, 180], abs=1e-5)


def test_the_gain_is_a_gaussian_process_s() -> None:
    stored, new, valid = some(6), some(1, 9), torch.tensor([True, True, False, True, True, False])
    kept = stored[valid].numpy()

    def k(a: np.ndarray, b: np.ndarray) -> float:
        angle = math.acos(np.clip(a[:3, 2] @ b[:3, 2], -1, 1))
        apart = np.linalg.norm(a[:3, 3] - b[:3, 3])
        return math.exp(-(apart**2) / (2 * 2.0**2) - angle**2 / (2 * math.radians(37.5) ** 2))

    gram = np.array([[k(a, b) for b in kept] for a in kept]) + NOISE * np.eye(len(kept))
    cross = np.array([k(new[0].numpy(), b) for b in kept])
    wanted = 0.5 * math.log((1 - cross @ np.linalg.inv(gram) @ cross + NOISE) / NOISE)
    found = information_gain(new, stored[None], valid[None], **SCALE)
    assert float(found) == pytest.approx(wanted, rel=1e-9)


def test_gains_fall_from_all_there_is_to_almost_nothing() -> None:
    stored = poses((0, 0, 0), (0, 3, 0))
    gains = [
        float(information_gain(new, stored[None], torch.ones(1, 2, dtype=torch.bool), **SCALE))
        for new in (poses((40, 0, 0)), poses((0, 1.5, 20)), poses((0, 0, 0)))
    ]
    assert gains[0] == pytest.approx(MAX_GAIN)
    assert gains[0] > gains[1] > gains[2]
    assert gains[2] < 0.3 * MAX_GAIN, "a viewpoint twice tells next to nothing"
    nothing = information_gain(poses((0, 0, 0)), stored[None], torch.zeros(1, 2, dtype=torch.bool), **SCALE)
    assert float(nothing) == pytest.approx(MAX_GAIN)


def test_farthest_points_keep_the_extremes() -> None:
    x = torch.tensor([0.0, 1.0, 1.1, 1.2, 5.0, 2.0, -4.0]).double()
    distance = (x[:, None] - x).abs()[None].repeat(2, 1, 1)
    valid = torch.tensor([[True] * 7, [True, True, True, True, False, True, True]])
    kept, radius = farthest_points(distance, valid, torch.tensor([0, 0]), 3)
    assert kept[0].nonzero()[:, 0].tolist() == [0, 4, 6]
    assert radius.tolist() == [4, 2]
    assert kept[1].nonzero()[:, 0].tolist() == [0, 5, 6], "what is not there is not kept"


@pytest.mark.parametrize("combine", ["geo", "add"])
def test_likeness_follows_its_formula(combine: str) -> None:
    query, stored = some(4)[None], some(5, 3)[None]
    found = similarity(query, stored, **SCALE, direction_weight=0.3, combine=combine)
    distance, angle = (t[0] for t in offsets(query, stored))
    for e in range(5):
        parts = []
        for j in range(4):
            d, a = float(distance[j, e]), float(angle[j, e])
            if combine == "geo":
                near, same = math.exp(-(d**2) / 8), math.exp(-(a**2) / (2 * math.radians(37.5) ** 2))
                parts.append(same**0.3 * near**0.7)
            else:
                parts.append(0.3 * (1 + math.cos(a)) / 2 + 0.7 * math.exp(-d / 2))
        assert float(found[0, e]) == pytest.approx(sum(parts) / 4)


def test_only_adding_likes_a_far_camera_that_looks_the_same_way() -> None:
    query, far = poses((0, 0, 0))[None], poses((0, 50, 0))[None]
    add, geo = (float(similarity(query, far, **SCALE, direction_weight=0.5, combine=c)) for c in ("add", "geo"))
    assert add == pytest.approx(0.5)
    assert geo < 1e-9


def test_the_kernel_is_one_on_itself_and_symmetric() -> None:
    a = some(5)
    kernel = pose_kernel(a, a, **SCALE)
    torch.testing.assert_close(kernel.diagonal(), torch.ones(5).double())
    torch.testing.assert_close(kernel, kernel.T)
