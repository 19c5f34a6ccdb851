import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldenv.eval.trajectory import nmr, r_dist, rpe, t_dist, t_dist_scaled, traj_acc


def track(count: int = 9, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, spread, (count, 3)), 0)).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(0, spread, (count, 3)), 0)
    return poses


def moved(poses: np.ndarray, seed: int = 5) -> np.ndarray:
    """The same track in another world frame."""
    return track(1, seed)[0] @ poses


def test_true_poses_have_no_error_in_any_world_frame() -> None:
    a = track()
    assert r_dist(moved(a), a) < 1e-6
    assert t_dist(moved(a), a) < 1e-6
    assert max(rpe(moved(a), a)) < 1e-6
    assert traj_acc(moved(a), a) == pytest.approx(1)
    assert traj_acc(moved(a), a, variant="signed") == pytest.approx(1)


def test_distances_equal_a_plain_transcription() -> None:
    a, b = track(seed=1), track(seed=2)
    relative = [np.linalg.inv(t[0]) @ t for t in (a, b)]
    angles = [Rotation.from_matrix(x[:3, :3] @ y[:3, :3].T).magnitude() for x, y in zip(*relative, strict=True)]
    assert r_dist(a, b) == pytest.approx(np.mean(angles), abs=1e-9)
    gaps = [np.linalg.norm(x[:3, 3] - y[:3, 3]) for x, y in zip(*relative, strict=True)]
    largest = max(np.linalg.norm(y[:3, 3]) for y in relative[1])
    assert t_dist(a, b) == pytest.approx(np.mean(gaps) / largest, abs=1e-9)
    errors = [np.linalg.inv(np.linalg.inv(b[i]) @ b[i + 1]) @ np.linalg.inv(a[i]) @ a[i + 1] for i in range(len(a) - 1)]
    found = rpe(a, b)
    assert found[0] == pytest.approx(np.mean([np.linalg.norm(e[:3, 3]) for e in errors]), abs=1e-9)
    assert found[1] == pytest.approx(np.mean([Rotation.from_matrix(e[:3, :3]).magnitude() for e in errors]), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1.0, math.pi - 1e-7, math.pi])
def test_angles_are_exact_from_none_to_half_a_turn(angle: float) -> None:
    a = np.tile(np.eye(4), (2, 1, 1))
    b = a.copy()
    a[1, :3, :3] = Rotation.from_rotvec([0, angle, 0]).as_matrix()
    assert r_dist(a, b) == pytest.approx(angle / 2, abs=1e-9)


def test_a_scaled_track_is_off_unless_scaled_back() -> None:
    a = track()
    b = a.copy()
    b[:, :3, 3] *= 3
    assert t_dist(b, a) > 0.5
    assert t_dist_scaled(b, a) < 1e-6


def test_walking_backwards_fools_only_the_published_accuracy() -> None:
    ahead, back, right = (np.tile(np.eye(4), (6, 1, 1)) for _ in range(3))
    ahead[:, 2, 3], back[:, 2, 3], right[:, 0, 3] = np.arange(6), -np.arange(6), np.arange(6)
    assert traj_acc(back, ahead) == pytest.approx(1)
    assert traj_acc(back, ahead, variant="signed") == pytest.approx(0)
    assert traj_acc(right, ahead) == pytest.approx(0)
    assert traj_acc(right, ahead, variant="signed") == pytest.approx(0.5)
    still = np.tile(np.eye(4), (6, 1, 1))
    assert traj_acc(still, ahead) == 0, "a frozen camera has no accuracy"


def test_batches_come_back_as_arrays_and_tensors_are_taken() -> None:
    a = torch.from_numpy(np.stack([track(seed=1), track(seed=2)]))
    b = torch.from_numpy(np.stack([track(seed=3), track(seed=3)]))
    for metric in (r_dist, t_dist, t_dist_scaled, traj_acc):
        both = metric(a, b)
        assert both.shape == (2,)
        assert both[1] == pytest.approx(metric(a[1], b[1]))


def test_what_cannot_be_measured_is_refused() -> None:
    still = np.tile(np.eye(4), (4, 1, 1))
    with pytest.raises(ValueError, match="no unit"):
        t_dist(track(4), still)
    with pytest.raises(ValueError, match="never moves"):
        traj_acc(track(4), still)
    with pytest.raises(ValueError, match="shapes"):
        r_dist(track(4), track(5))
    with pytest.raises(ValueError, match="NaN"):
        r_dist(track(4) * np.nan, track(4))
    with pytest.raises(ValueError, match="no motion"):
        rpe(track(1), track(1))
    with pytest.raises(ValueError, match="choose 'iworld'"):
        traj_acc(still, still, variant="other")  # type: ignore[arg-type]


def walk_out_and_back(*, remembers: bool) -> tuple[np.ndarray, np.ndarray]:
    """Thirty places out and back; each place has its picture, neighbours share half of it."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (33, 8, 8, 3))
    places = np.concatenate([np.arange(30), np.arange(28, -1, -1)])
    frames = np.stack([np.concatenate([base[p, :4], base[p // 4, 4:]]) for p in places]).astype(np.uint8)
    if not remembers:
        frames[30:] = rng.integers(0, 256, frames[30:].shape)
    c2w = np.tile(np.eye(4), (59, 1, 1))
    c2w[:, 2, 3] = places
    return frames, c2w


def test_memory_is_told_from_everything_looking_alike() -> None:
    assert nmr(*walk_out_and_back(remembers=True)) > 0.9
    assert nmr(*walk_out_and_back(remembers=False)) < 0.2
    frames, c2w = walk_out_and_back(remembers=True)
    with pytest.raises(ValueError, match="need both"):
        nmr(frames[:20], c2w[:20])
