"""How well probabilities tell events from others, once: F1, the area under the ROC curve, calibration."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
LEAST_SCALE = 1e-6
"""Of evidence that says nothing, in units of its deviation."""


def f1_score(
    found: npt.NDArray[np.bool_],  # (N,)
    truth: npt.NDArray[np.bool_],  # (N,)
) -> float:
    """Return the harmonic mean of precision and recall; NaN where there is no event and none was found."""
    wrong, right = int((found != truth).sum()), int((found & truth).sum())
    return 2 * right / (2 * right + wrong) if right or wrong else float("nan")


def auc(
    score: Array,  # (N,)
    truth: npt.NDArray[np.bool_],  # (N,)
) -> float:
    """Return the probability that an event scores higher than another moment, ties half; NaN without both."""
    events, others = int(truth.sum()), int((~truth).sum())
    if not events or not others:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # of ties the middle one
    return float((rank[truth].sum() - events * (events + 1) / 2) / (events * others))


def calibration_error(
    probability: Array,  # (N,)
    truth: npt.NDArray[np.bool_],  # (N,)
    *,
    num_bins: int = 15,
) -> float:
    """Return the expected calibration error (Guo et al. 2017): over bins of equal width, weighted by their numbers."""
    place = np.minimum((probability * num_bins).astype(int), num_bins - 1)
    count, said, was = (
        np.bincount(place, weights, num_bins) for weights in (None, probability, truth.astype(np.float64))
    )
    return float(np.abs(said - was).sum() / max(1, count.sum()))


def best_threshold(
    probability: Array,  # (N,)
    truth: npt.NDArray[np.bool_],  # (N,)
) -> float:
    """Return the threshold with the best F1: halfway between the last that counts and the first that does not.

    0.5 without an event.
    """
    if not truth.any():
        return 0.5
    order = np.argsort(-probability, kind="stable")
    sorted_p, right = probability[order], np.cumsum(truth[order])
    f1 = 2 * right / (np.arange(1, len(right) + 1) + truth.sum())
    ends = np.append(sorted_p[1:] != sorted_p[:-1], True)  # equal probabilities fall on one side
    last = int(np.where(ends, f1, -1).argmax())
    below = float(sorted_p[last + 1]) if last + 1 < len(sorted_p) else 0.0
    return (float(sorted_p[last]) + below) / 2


def platt(
    evidence: Tensor,  # (N,) logits
    truth: Tensor,  # (N,) bool
) -> tuple[float, float]:
    """Return the scale and the shift of logits under which their likelihood is best; (1, 0) without both classes.

    Targets are smoothed as Platt (1999) does, so that classes that can be told apart keep finite probabilities. The
    scale is never negative: evidence that says nothing, or the contrary, leaves the events' share.
    """
    events, others = int(truth.sum()), int((~truth).sum())
    if not events or not others:
        return 1.0, 0.0
    x = evidence.detach().double()
    mean, deviation = float(x.mean()), max(float(x.std()), 1e-9)
    x = (x - mean) / deviation
    y = torch.where(truth, (events + 1) / (events + 2), 1 / (others + 2)).double()
    scale = torch.ones((), dtype=torch.double, requires_grad=True)
    shift = torch.full((), math.log(events / others), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scale * x + shift, y)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    found, moved = float(scale.detach()), float(shift.detach())
    if not found > 0 or not math.isfinite(moved):
        found, moved = LEAST_SCALE, math.log(events / others)
    return found / deviation, moved - found * mean / deviation
