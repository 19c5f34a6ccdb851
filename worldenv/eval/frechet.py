"""The Frechet distance between two sets of features, in float64; FID and FVD are this on their networks' features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .image import Array, as_array

TOLERANCE = 1e-6
"""Relative asymmetry or negative variance that rounding explains; more is an error."""
BLOCK = 50
"""Resampled sets that are computed together."""


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


@dataclass(frozen=True)
class Moments:
    """Sums over each trajectory's features: a resampled set's Gaussian is a weighted sum of them."""

    count: Array  # (N,)
    first: Array  # (N, D)
    second: Array  # (N, D, D)

    @classmethod
    def of(
        cls,
        features: Array,  # (N, n, D), about 0: sums of squares lose digits far from it
        chosen: npt.NDArray[np.bool_],  # (N, n) which of them count
    ) -> Moments:
        """Sum up."""
        kept = features * chosen[..., None]
        return cls(chosen.sum(1).astype(np.float64), kept.sum(1), kept.swapaxes(1, 2) @ kept)

    def gaussians(
        self,
        weights: Array,  # (K, N) how often each trajectory counts
    ) -> tuple[Array, Array]:
        """Return means (K, D) and covariances (K, D, D)."""
        count = (weights @ self.count)[:, None]
        mean = weights @ self.first / count
        second = (weights @ self.second.reshape(len(self.second), -1)).reshape(-1, *self.second.shape[1:])
        spread = second - (count * mean)[:, :, None] * mean[:, None]
        return mean, spread / (count[..., None] - 1)


def frechet_draws(
    made: Mapping[str, Moments],
    true: Moments,
    weights: Array,  # (K, N) how often each trajectory counts, in what was made and in the truth
) -> dict[str, Array]:
    """Return the distances of resampled sets from the truth resampled with them, (K,) by arm.

    The last trace of ``frechet`` is here the sum of the roots of the eigenvalues of F_b cov_a F_b^T: faster, and exact
    to 1e-7 of the variance. Draws with fewer than 2 features are NaN.
    """
    drawn, where = np.unique(weights, axis=0, return_inverse=True)  # few trajectories come in few combinations
    found = {arm: np.full(len(drawn), np.nan) for arm in made}
    usable = np.flatnonzero(drawn @ true.count >= 2)
    for rows in np.array_split(usable, max(1, len(usable) // BLOCK)):
        mean, covariance = true.gaussians(drawn[rows])
        values, vectors = np.linalg.eigh(covariance)
        factor = np.sqrt(np.maximum(values, 0))[..., None] * vectors.swapaxes(1, 2)
        for arm, moments in made.items():
            own_mean, own = moments.gaussians(drawn[rows])
            eigenvalues = np.linalg.eigvalsh(factor @ own @ factor.swapaxes(1, 2))
            shared = np.sqrt(np.maximum(eigenvalues, 0)).sum(1)
            spread = np.trace(own + covariance, axis1=1, axis2=2) - 2 * shared
            found[arm][rows] = np.maximum(0, ((own_mean - mean) ** 2).sum(1) + spread)
    return {arm: draws[where] for arm, draws in found.items()}


def _features(features: Any) -> Array:
    array = as_array(features)
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
