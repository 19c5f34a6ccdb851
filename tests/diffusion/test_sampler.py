import pytest
import torch

from worldenv.diffusion.sampler import sample_chunk
from worldenv.diffusion.schedule import SamplerConfig, inference_sigmas

NOISE = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
DATA = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@pytest.mark.parametrize("shift", [1.0, 2.0, 8.0])
def test_a_straight_field_is_integrated_exactly(steps: int, shift: float) -> None:
    config = SamplerConfig(num_steps=steps, shift=shift)
    made = sample_chunk(lambda x, t: NOISE - DATA, NOISE, config)
    torch.testing.assert_close(made, DATA, atol=1e-12, rtol=0)


def test_the_networks_x0_is_reached_from_any_field_that_knows_it() -> None:
    """v = (x - x0) / sigma is the exact field of a single data point."""

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return (x - DATA) / (timesteps / 1000)[..., None, None, None]

    torch.testing.assert_close(sample_chunk(velocity, NOISE, SamplerConfig()), DATA, atol=1e-6, rtol=0)
    renoised = sample_chunk(velocity, NOISE, SamplerConfig(stochastic=True), renoise=lambda: 3 * NOISE)
    torch.testing.assert_close(renoised, DATA, atol=1e-6, rtol=0)


def test_two_step_integration_is_exact_on_a_velocity_that_is_linear_in_time_but_for_its_start() -> None:
    """x' = 2 sigma: Euler is off by the step, Adams-Bashforth only by what its first (Euler) step missed."""

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return 2 * (timesteps / 1000)[..., None, None, None].expand_as(x).double()

    exact = NOISE - 1  # the integral of 2 sigma from 1 to 0
    errors = {}
    for order in (1, 2):
        config = SamplerConfig(num_steps=4, shift=1.0, order=order)
        errors[order] = (sample_chunk(velocity, NOISE, config) - exact).abs().max()
    assert errors[1] == pytest.approx(0.25, abs=1e-6)
    assert errors[2] == pytest.approx(0.0625, abs=1e-6)


def test_samplers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="order=3; choose 1"):
        SamplerConfig(order=3)
    with pytest.raises(ValueError, match="has order=1"):
        SamplerConfig(order=2, stochastic=True)


def test_a_stochastic_sampler_needs_noise() -> None:
    with pytest.raises(ValueError, match="pass what draws its noise"):
        sample_chunk(lambda x, t: NOISE - DATA, NOISE, SamplerConfig(stochastic=True))


def test_timesteps_are_a_thousand_sigmas_for_every_latent() -> None:
    config, called = SamplerConfig(num_steps=3), []

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        called.append(timesteps)
        return torch.zeros_like(x)

    assert torch.equal(sample_chunk(velocity, NOISE, config), NOISE)
    assert all(t.shape == (2, 3) for t in called)
    torch.testing.assert_close(torch.stack(called)[:, 0, 0].double(), 1000 * inference_sigmas(config)[:-1])


def test_stochastic_steps_use_fresh_noise_between_levels_but_not_at_the_end() -> None:
    fresh = iter([10 * NOISE, 20 * NOISE])
    seen = []

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return (x - DATA) / (timesteps / 1000)[..., None, None, None]

    config = SamplerConfig(num_steps=3, shift=1.0, stochastic=True)
    sample_chunk(velocity, NOISE, config, renoise=lambda: next(fresh))
    torch.testing.assert_close(seen[1], DATA / 3 + 2 / 3 * 10 * NOISE, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[2], DATA * 2 / 3 + 1 / 3 * 20 * NOISE, atol=1e-5, rtol=0)
    assert next(fresh, None) is None


def test_leaving_early_gives_the_x0_of_that_step_and_gradients_of_it_alone() -> None:
    """Steps before it see no gradient; the result is the x0 predicted there, at the last step the whole sampler's."""
    config = SamplerConfig(num_steps=3, shift=2.0, stochastic=True)
    sigmas, steps = inference_sigmas(config), []
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def velocity(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        steps.append(int((sigmas * 1000 - timesteps[0, 0]).abs().argmin()))
        return weights[steps[-1]] * (x - DATA)

    for leave in range(3):
        steps.clear()
        made = sample_chunk(velocity, NOISE, config, renoise=lambda: 2 * NOISE, exit_step=leave)
        assert steps == list(range(leave + 1))
        (gradient,) = torch.autograd.grad(made.sum(), weights)
        assert [bool(g != 0) for g in gradient] == [i == leave for i in range(3)]
    torch.testing.assert_close(made, sample_chunk(velocity, NOISE, config, renoise=lambda: 2 * NOISE))


def test_under_autocast_gradients_reach_weights_that_ran_without_before() -> None:
    layer = torch.nn.Linear(2, 2)
    config = SamplerConfig(num_steps=3, stochastic=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = sample_chunk(lambda x, t: layer(x), NOISE.float(), config, renoise=NOISE.float, exit_step=2)
    made.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0
