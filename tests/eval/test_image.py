import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from worldenv.eval.image import as_unit, contrast_ratio, frame_psnr, motion_ratio, psnr, ssim

RNG = np.random.default_rng(0)
A = RNG.integers(0, 256, (2, 3, 16, 20, 3), dtype=np.uint8)
B = np.clip(A.astype(int) + RNG.integers(-20, 21, A.shape), 0, 255).astype(np.uint8)


def test_psnr_equals_skimage_per_frame() -> None:
    wanted = [
        [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(p, q, strict=True)]
        for p, q in zip(A, B, strict=True)
    ]
    np.testing.assert_allclose(frame_psnr(A, B), wanted, atol=1e-9)
    np.testing.assert_allclose(psnr(A, B), np.mean(wanted, 1), atol=1e-9)


def test_psnr_by_its_formula_and_cap() -> None:
    zero = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr(zero, zero + 51) == pytest.approx(20 * math.log10(5))
    assert psnr(zero, zero) == 60.0
    assert isinstance(psnr(zero, zero), float)
    assert psnr(np.zeros((1, 4, 4, 3)), np.full((1, 4, 4, 3), 1e-5)) == 60.0
    mixed = np.concatenate([zero, zero]), np.concatenate([zero, zero + 51])
    assert psnr(*mixed) == pytest.approx((60 + 20 * math.log10(5)) / 2), "each frame is capped, then averaged"


def test_ssim_equals_skimages_published_definition() -> None:
    wanted = np.mean(
        [
            structural_similarity(
                x / 255,
                y / 255,
                win_size=11,
                gaussian_weights=True,
                sigma=1.5,
                data_range=1.0,
                use_sample_covariance=False,
                channel_axis=-1,
            )
            for x, y in zip(A[0], B[0], strict=True)
        ]
    )
    assert ssim(A[0], B[0]) == pytest.approx(wanted, abs=1e-9)
    assert ssim(A, B).shape == (2,)
    assert ssim(A[0], A[0]) == pytest.approx(1.0)


def test_types_agree() -> None:
    values = [psnr(A, B), psnr(torch.from_numpy(A), torch.from_numpy(B)), psnr(A / 255, B / 255)]
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim, contrast_ratio, motion_ratio])
def test_bad_pictures_are_refused(metric: object) -> None:
    good = np.zeros((2, 16, 16, 3))
    for bad, message in ((np.nan, "finite"), (1.5, r"0\.\.1"), (-0.1, r"0\.\.1"), (np.inf, "finite")):
        wrong = good.copy()
        wrong[0, 0, 0, 0] = bad
        with pytest.raises(ValueError, match=message):
            metric(wrong, good)  # type: ignore[operator]
    with pytest.raises(ValueError, match="shapes differ"):
        metric(good, good[:1])  # type: ignore[operator]
    with pytest.raises(ValueError, match="expected"):
        metric(good[..., 0], good[..., 0])  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool])
def test_integers_that_are_not_bytes_are_refused(dtype: type) -> None:
    """0 and 1 in another integer type would pass for floats in 0..1 and mean something else."""
    with pytest.raises((ValueError, TypeError)):
        as_unit(np.zeros((1, 16, 16, 3), dtype))


def test_contrast_and_motion_ratios() -> None:
    assert contrast_ratio(A[0], A[0]) == pytest.approx(1)
    flat = np.full_like(A[0], 128)
    assert contrast_ratio(flat, A[0]) == 0
    assert motion_ratio(A[0], A[0]) == pytest.approx(1)
    assert motion_ratio(flat, A[0]) == 0
    assert motion_ratio(A, B).shape == (2,)
