"""Each failure of a distillation shows in its own figure."""

import pytest
import torch

from worldenv.base.log import console
from worldenv.training.symptoms import BOUNDS, symptoms, warn

TRUTH = 0.3 * torch.randn(2, 32, 3, 48, 64, generator=torch.Generator().manual_seed(0)).cumsum(1).clamp(-3, 3)


def measured(made: torch.Tensor) -> dict[str, float]:
    return symptoms(made, TRUTH, chunk_frames=16, period=16)


def well(figures: dict[str, float]) -> set[str]:
    return {name for name, (low, high, *_) in BOUNDS.items() if name in figures and low <= figures[name] <= high}


def test_the_truth_shows_none() -> None:
    near = measured(TRUTH + 1e-3)
    assert near == pytest.approx({"contrast_growth": 0, "motion": 1, "grid": 1, "first_chunk_db": 0}, abs=1e-2)


def test_every_failure_shows_in_its_figure() -> None:
    growing = TRUTH * torch.linspace(1, 1.5, 32)[:, None, None, None]
    wave = torch.sin(2 * torch.pi * torch.arange(64) / 16)
    late = TRUTH.clone()
    late[:, :16] += 0.5 * torch.randn(TRUTH[:, :16].shape, generator=torch.Generator().manual_seed(1))
    late[:, 16:] += 0.1
    ill = {
        "contrast_growth": growing,
        "motion": TRUTH[:, :1] + 0.1 * (TRUTH - TRUTH[:, :1]),
        "grid": TRUTH + 0.3 * wave,
        "first_chunk_db": late,
    }
    for name, made in ill.items():
        figures = measured(made)
        assert name not in well(figures), figures


def test_warnings_name_what_is_out_of_bounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    warn({"contrast_student": 1.2, "motion_student": 1.0, "contrast_teacher": 0.1}, "student")
    said = capsys.readouterr().err
    assert "over-saturated" in said
    assert len(said.strip().splitlines()) == 1
