from __future__ import annotations

import numpy as np
import pytest
import torch

from worldenv.base.classify import auc, best_threshold, calibration_error, f1_score, platt


def test_f1_and_auc_of_a_worked_example() -> None:
    truth = np.array([True, True, True, False, False])
    assert f1_score(np.array([True, True, False, True, False]), truth) == pytest.approx(4 / 6)
    assert np.isnan(f1_score(np.zeros(5, bool), np.zeros(5, bool)))
    assert f1_score(np.zeros(5, bool), truth) == 0
    # pairs (event, other): 0.9 beats both, 0.5 ties one and beats one, 0.2 loses to one and beats one
    assert auc(np.array([0.9, 0.5, 0.2, 0.5, 0.1]), truth) == pytest.approx((2 + 1.5 + 1) / 6)
    assert np.isnan(auc(np.ones(5), np.ones(5, bool)))


def test_probabilities_that_are_right_are_calibrated_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 20_000)
    truth = rng.uniform(0, 1, 20_000) < probability
    assert calibration_error(probability, truth) < 0.02
    assert calibration_error(probability**3, truth) > 0.15


def test_the_threshold_has_the_best_f1_that_any_has() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 1, 500) < 0.1
    probability = np.clip(rng.normal(0.3 + 0.3 * truth, 0.15).round(2), 0, 1)
    chosen = f1_score(probability >= best_threshold(probability, truth), truth)
    assert chosen == max(f1_score(probability >= t, truth) for t in np.arange(0, 1.001, 0.005))
    assert best_threshold(np.array([0.1, 0.2]), np.zeros(2, bool)) == 0.5
    assert best_threshold(np.array([0.4, 0.8]), np.array([False, True])) == pytest.approx(0.6)


def test_platt_undoes_a_scale_and_a_shift() -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(20_000)
    truth = torch.rand(20_000) < logits.sigmoid()
    scale, shift = platt((logits - 1.5) / 0.4, truth)
    assert scale == pytest.approx(0.4, rel=0.05)
    assert shift == pytest.approx(1.5, rel=0.05)
    for evidence in (50 * torch.randn(20_000) + 300, -5 * logits):  # nothing, and the contrary
        scale, shift = platt(evidence, truth)
        said = (scale * evidence + shift).sigmoid()
        assert scale > 0
        assert float((said - truth.float().mean()).abs().max()) < 0.1
    assert platt(logits, torch.zeros(20_000, dtype=torch.bool)) == (1.0, 0.0)
