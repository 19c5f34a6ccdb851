import torch

from worldenv.diffusion.dmd import dmd_gradient, dmd_loss, score_sigmas
from worldenv.diffusion.schedule import add_noise


def test_a_sample_moves_to_where_the_teacher_has_it() -> None:
    """The critic finds X typical, the teacher would have it at X + d: a step of descent moves X along +d."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 2, 2, 2, generator=generator, requires_grad=True)
    d = torch.randn(x.shape, generator=generator)
    gradient = dmd_gradient(x.detach(), x.detach() + d, x.detach())
    dmd_loss(x, gradient).backward()
    assert x.grad is not None
    scale = d.abs().mean((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(-x.grad * x.numel(), d / scale)


def test_each_sample_is_normalised_by_itself_and_nothing_is_not_a_number() -> None:
    x = torch.zeros(3, 1, 1, 1, 2)
    real = torch.tensor([[1.0, 1.0], [100.0, 100.0], [0.0, 0.0]]).view(3, 1, 1, 1, 2)
    gradient = dmd_gradient(x, real, x)
    assert gradient[:2].flatten().tolist() == [-1.0] * 4
    assert dmd_gradient(x, real, x)[2].tolist() == torch.zeros(1, 1, 1, 2).tolist(), "0 / 0 is no gradient"
    assert dmd_gradient(x, real, x + 1)[2].tolist() == torch.zeros(1, 1, 1, 2).tolist(), "nor is 1 / 0"


def test_levels_are_one_per_clip_and_within_bounds() -> None:
    sigmas = score_sigmas(4000, shift=2.0, bounds=(0.1, 0.9), generator=torch.Generator().manual_seed(0))
    assert sigmas.shape == (4000, 1)
    torch.testing.assert_close(torch.stack([sigmas.min(), sigmas.max()]), torch.tensor([0.1, 0.9]))
    assert abs(float(sigmas.median()) - 2 / 3) < 0.03, "the middle of [0, 1] under shift 2"


def posterior(x: torch.Tensor, sigma: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """E[x0 | x_sigma] of a Gaussian: what a perfect network predicts."""
    a, variance = 1 - sigma, std**2
    return mean + a * variance / (a**2 * variance + sigma**2) * (x - a * mean)


def test_one_gaussian_becomes_another() -> None:
    """A generator a + b z, scored exactly on both sides, takes on the data's mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.tensor(-3.0, requires_grad=True), torch.tensor(0.3, requires_grad=True)
    mean, std = torch.tensor(2.0), torch.tensor(1.5)
    optimizer = torch.optim.Adam([a, b], lr=0.05)
    for step in range(600):
        x = (a + b * torch.randn(64, generator=generator)).view(1, 64, 1, 1, 1)
        sigmas = score_sigmas(64, shift=1.0, bounds=(0.02, 0.98), generator=generator).view(1, 64)
        noisy = add_noise(x.detach(), torch.randn(x.shape, generator=generator), sigmas)
        level = sigmas[..., None, None, None]
        real = posterior(noisy, level, mean, std)
        fake = posterior(noisy, level, a.detach(), b.detach().abs())
        loss = dmd_loss(x, dmd_gradient(x.detach(), real, fake))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert a.grad is not None
            assert float(a.grad) < 0, "the mean rises towards the data's"
        optimizer.step()
        if step == 400:
            optimizer.param_groups[0]["lr"] = 0.005
    assert abs(a.item() - 2.0) < 0.2
    assert abs(abs(b.item()) - 1.5) < 0.2
