"""The Frechet distance between two sets of features, in float64; FID and FVD are this on their networks' features."""

from __future__ import annotations

from typing import Any

import numpy as np

from .image import Array

TOLERANCE = 1e-6
"""Relative asymmetry or negative variance that rounding explains; more is an error."""


def frechet_distance(
    features_a: Any,  # (N, D)
    features_b: Any,  # (M, D)
) -> float:
    """Return the squared Frechet distance of the Gaussians fitted to two sets (Heusel et al. 2017, equation 6).

    Covariances divide by N - 1. The value grows as sets shrink: compare only values of equal N and M.

    Raises:
        ValueError: if a set has fewer than 2 rows, holds NaN, or the widths differ.
    """
    a, b = _features(features_a), _features(features_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features are {a.shape[1]} and {b.shape[1]} wide; both sets need the same network")
    return frechet(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def frechet(
    mean_a: Any,  # (D,)
    cov_a: Any,  # (D, D)
    mean_b: Any,  # (D,)
    cov_b: Any,  # (D, D)
) -> float:
    """Return |mean_a - mean_b|^2 + Tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)).

    With cov = F^T F, the last trace is the sum of the singular values of F_a F_b^T: no root of a product that is not
    symmetric, and no offset for covariances without full rank.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, or a matrix is no covariance.
    """
    means = [np.asarray(mean, np.float64) for mean in (mean_a, mean_b)]
    covariances = [np.asarray(cov, np.float64) for cov in (cov_a, cov_b)]
    width = means[0].size
    if any(m.shape != (width,) for m in means) or any(c.shape != (width, width) for c in covariances):
        shapes = [tuple(x.shape) for x in (*means, *covariances)]
        raise ValueError(f"means and covariances have shapes {shapes}, expected (D,) and (D, D)")
    if not all(np.isfinite(x).all() for x in (*means, *covariances)):
        raise ValueError("means and covariances must be finite")
    factor_a, factor_b = (_factor(cov) for cov in covariances)
    shared = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    spread = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared
    return max(0.0, float(((means[0] - means[1]) ** 2).sum() + spread))


def _features(features: Any) -> Array:
    array = features.detach().cpu().numpy() if hasattr(features, "detach") else np.asarray(features)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"features have shape {array.shape}, expected (N, D) with N >= 2")
    if not np.isfinite(array).all():
        raise ValueError("features hold NaN or infinite numbers")
    return array.astype(np.float64)


def _covariance(features: Array) -> Array:
    centred = features - features.mean(0)
    result: Array = centred.T @ centred / (len(features) - 1)
    return result


def _factor(covariance: Array) -> Array:
    """Return F with F^T F equal to the covariance, variances that are rounding left out; (R, D)."""
    scale = max(float(np.abs(covariance).max()), np.finfo(np.float64).tiny)
    if np.abs(covariance - covariance.T).max() > TOLERANCE * scale:
        raise ValueError("a covariance is not symmetric")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -TOLERANCE * scale * len(values):
        raise ValueError(f"a covariance has the negative variance {values[0]:.3g}")
    kept = values > len(values) * np.finfo(np.float64).eps * scale
    result: Array = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return result
