"""The Frechet distance against its definition with scipy's matrix root, closed forms, and inputs without full rank."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from worldenv.eval.frechet import Moments, frechet, frechet_distance, frechet_draws

RNG = np.random.default_rng(0)


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def correlated(rows: int, width: int, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


@pytest.mark.parametrize(("rows", "width"), [((50, 50), 5), ((200, 37), 12), ((500, 400), 64)])
def test_equals_the_definition_with_scipys_root(rows: tuple[int, int], width: int) -> None:
    a, b = (correlated(n, width, seed=i) for i, n in enumerate(rows))
    wanted = by_definition(a, b)
    assert wanted > 1
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(wanted, rel=1e-6)
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    assert frechet_distance(*tensors) == pytest.approx(wanted, rel=1e-6)
    assert isinstance(frechet_distance(*tensors), float)


def test_closed_forms() -> None:
    # One dimension: (m - n)^2 + (s - t)^2; commuting covariances: the same for each axis.
    assert frechet([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(4 + 1)
    assert frechet([0, 0], np.diag([4, 1]), [0, 2], np.diag([1, 16])) == pytest.approx(4 + 1 + 9)
    a = correlated(40, 6, seed=3)
    assert frechet_distance(a, a + 2) == pytest.approx(6 * 4)
    assert frechet_distance(a, 3 * a) == pytest.approx(4 * ((a.mean(0) ** 2).sum() + np.trace(np.cov(a.T))))


def test_a_shift_of_both_and_the_order_do_not_matter() -> None:
    a, b = correlated(40, 6, seed=1), correlated(30, 6, seed=2)
    assert frechet_distance(a + 100, RNG.permutation(b) + 100) == pytest.approx(frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize(("rows", "width"), [(100, 8), (5, 32), (2, 300)])
def test_identical_sets_are_0_apart(rows: int, width: int) -> None:
    a = correlated(rows, width, seed=4)
    assert frechet_distance(a, a.copy()) == pytest.approx(0, abs=1e-9 * width * np.abs(a).max() ** 2)


def test_covariances_without_full_rank() -> None:
    # Orthogonal subspaces share nothing: the traces remain. A point is a covariance of zeros.
    a, b = np.zeros((10, 8)), np.zeros((10, 8))
    a[:, :3], b[:, 3:] = RNG.normal(size=(10, 3)), RNG.normal(size=(10, 5))
    centre = ((a.mean(0) - b.mean(0)) ** 2).sum()
    wanted = centre + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T))
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-12)
    point = np.full((4, 8), 2.0)
    assert frechet_distance(point, point) == 0
    assert frechet_distance(point, a) == pytest.approx(((a.mean(0) - 2) ** 2).sum() + np.trace(np.cov(a.T)))
    # A basis rotated into more axes than there are rows changes nothing.
    rotation = np.linalg.qr(RNG.normal(size=(40, 40)))[0][:6]
    low_a, low_b = correlated(30, 6, seed=5), correlated(20, 6, seed=6)
    assert frechet_distance(low_a @ rotation, low_b @ rotation) == pytest.approx(
        frechet_distance(low_a, low_b), rel=1e-8
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_features_are_refused(bad: float) -> None:
    good = RNG.normal(size=(5, 3))
    wrong = good.copy()
    wrong[0, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        frechet_distance(good, wrong)
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance(good[:1], good)
    with pytest.raises(ValueError, match="3 and 2 wide"):
        frechet_distance(good, good[:, :2])
    with pytest.raises(ValueError, match=r"expected \(N, D\)"):
        frechet_distance(good[0], good)


def test_what_is_no_covariance_is_refused() -> None:
    eye = np.eye(2)
    with pytest.raises(ValueError, match="not symmetric"):
        frechet([0, 0], [[1, 1], [0, 1]], [0, 0], eye)
    with pytest.raises(ValueError, match="negative variance"):
        frechet([0, 0], [[1, 2], [2, 1]], [0, 0], eye)
    with pytest.raises(ValueError, match="finite"):
        frechet([0, np.nan], eye, [0, 0], eye)
    with pytest.raises(ValueError, match="shapes"):
        frechet([0, 0], eye, [0, 0, 0], np.eye(3))


@pytest.mark.parametrize(("length", "width"), [(9, 4), (2, 30)])
def test_draws_are_the_distances_of_resampled_trajectories(length: int, width: int) -> None:
    """Against the features themselves, put together as often as each trajectory was drawn; also without full rank."""
    made, true = (correlated(7 * length, width, seed=i).reshape(7, length, width) for i in (8, 9))
    chosen = RNG.random((7, length)) < 0.7
    chosen[0] = False  # a trajectory without any such frame
    weights = RNG.multinomial(7, np.full(7, 1 / 7), 120)
    weights[0] = [7, 0, 0, 0, 0, 0, 0]
    sums = {"arm": Moments.of(made, chosen), "truth": Moments.of(true, chosen)}
    found = frechet_draws(sums, sums["truth"], weights.astype(float))
    assert np.isnan(found["arm"][0])
    for draw, times in list(zip(found["arm"], weights, strict=True))[1:]:
        a, b = (np.concatenate([x[i][chosen[i]] for i in np.repeat(np.arange(7), times)]) for x in (made, true))
        assert draw == pytest.approx(frechet_distance(a, b), rel=1e-5)
    assert found["truth"][1:] == pytest.approx(np.zeros(119), abs=1e-5 * true.var() * width)
