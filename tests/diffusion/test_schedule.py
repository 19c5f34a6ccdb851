import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldenv.diffusion.schedule import (
    SamplerConfig,
    add_noise,
    inference_sigmas,
    predict_x0,
    sample_sigmas,
    shift_sigmas,
)


def test_worldplays_schedule() -> None:
    """Four steps with shift 8 are the released model's timesteps."""
    timesteps = 1000 * inference_sigmas(SamplerConfig(num_steps=4, shift=8.0))
    wanted = torch.tensor([1000, 960, 888.8889, 727.2727, 0], dtype=torch.float64)
    torch.testing.assert_close(timesteps, wanted, atol=1e-3, rtol=0)


@given(st.floats(0.2, 10), st.integers(1, 20))
def test_levels_fall_from_one_to_zero(shift: float, steps: int) -> None:
    sigmas = inference_sigmas(SamplerConfig(num_steps=steps, shift=shift))
    assert len(sigmas) == steps + 1
    assert float(sigmas[0]) == pytest.approx(1)
    assert float(sigmas[-1]) == 0
    assert (sigmas.diff() < 0).all()


def test_shift_one_changes_nothing_and_more_means_noisier() -> None:
    sigmas = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shift_sigmas(sigmas, 1.0), sigmas)
    assert (shift_sigmas(sigmas, 3.0)[1:-1] > sigmas[1:-1]).all()


def test_training_levels_are_logit_normal_and_reproducible() -> None:
    draws = sample_sigmas((20_000,), shift=1.0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws, sample_sigmas((20_000,), shift=1.0, generator=torch.Generator().manual_seed(0)))
    logits = torch.logit(draws)
    assert float(logits.mean()) == pytest.approx(0, abs=0.03)
    assert float(logits.std()) == pytest.approx(1, abs=0.03)
    shifted = sample_sigmas((20_000,), shift=2.0, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shifted, shift_sigmas(draws, 2.0))


def test_prediction_undoes_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 2, 3, 4, 2, 2, generator=generator)
    sigmas = torch.rand(2, 3, generator=generator)
    noisy = add_noise(x0, noise, sigmas)
    torch.testing.assert_close(predict_x0(noisy, noise - x0, sigmas), x0, atol=1e-6, rtol=0)
    assert torch.equal(add_noise(x0, noise, torch.zeros(2, 3)), x0)
    assert torch.equal(add_noise(x0, noise, torch.ones(2, 3)), noise)
    assert torch.equal(add_noise(x0, noise, torch.eye(2, 3))[0, 1], x0[0, 1]), "a level per latent"
