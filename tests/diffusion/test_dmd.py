import torch
from torch import nn

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


def two_modes(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[x0 | x_sigma] of half a Gaussian at -2 and half at 2, both with deviation 0.4."""
    a, std = 1 - sigma, torch.tensor(0.4)
    variance = a**2 * std**2 + sigma**2
    weight = torch.stack([-((x - a * mean) ** 2) / (2 * variance) for mean in (-2.0, 2.0)]).softmax(0)
    each = torch.stack([posterior(x, sigma, torch.tensor(mean), std) for mean in (-2.0, 2.0)])
    return (weight * each).sum(0)


def test_two_gaussians_are_both_found_with_a_learned_critic() -> None:
    """A small network from noise to data, a critic that learns what it makes in five updates to one."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    student = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    critic = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    rates = ((student, 1e-2), (critic, 4e-3))
    optimizers = [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.999)) for net, lr in rates]

    def scored(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sigmas = score_sigmas(len(x), shift=1.0, bounds=(0.02, 0.98), generator=generator)
        noise = torch.randn(x.shape, generator=generator)
        noisy = (1 - sigmas) * x + sigmas * noise
        velocity = critic(torch.cat([noisy, sigmas], 1))
        return velocity - (noise - x), noisy - sigmas * velocity, two_modes(noisy, sigmas)

    def made() -> torch.Tensor:
        return student(torch.randn(256, 1, generator=generator))

    def follow(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(400):
        for _ in range(5):
            follow(optimizers[1], scored(made().detach())[0].square().mean())
        x = made()
        _, fake, real = (part.detach().view(1, -1, 1, 1, 1) for part in scored(x.detach()))
        x = x.view(1, -1, 1, 1, 1)
        follow(optimizers[0], dmd_loss(x, dmd_gradient(x.detach(), real, fake)))
    x = made().detach()[:, 0]
    left, right = x[x < 0], x[x > 0]
    assert 0.3 < len(left) / len(x) < 0.7
    assert abs(left.median() + 2) < 0.35
    assert abs(right.median() - 2) < 0.35
    assert (x.abs() < 1).float().mean() < 0.25, "few lie between"
