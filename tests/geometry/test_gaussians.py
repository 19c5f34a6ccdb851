"""Blobs drawn, and what learns from the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.geometry.test_splat import HEIGHT, WIDTH, K, camera, room
from worldenv.geometry.camera import unproject
from worldenv.geometry.gaussians import Gaussians, draw

SIZE = (HEIGHT, WIDTH)


def blobs(colour: Tensor, depth: Tensor, c2w: Tensor, share: float = 0.5) -> Gaussians:
    """Make a blob of every pixel, (3, H, W) and (H, W)."""
    xyz = unproject(depth, c2w.float(), K).flatten(0, 1)[None]
    radius = (share * depth / K[0, 0]).flatten()[None]
    return Gaussians(xyz, colour.flatten(1).T[None], radius, torch.ones_like(radius))


def test_a_view_is_drawn_as_it_was_and_others_nearly_so() -> None:
    here, there = camera(0, 0, 0), camera(0.5, 0.6, 12)
    colour, depth = room(here)
    for c2w, most in ((here, 0.03), (there, 0.06)):
        drawn = draw(blobs(colour, depth, here), c2w[None], K, size=SIZE, most=3)
        truth, far = room(c2w)
        known = (drawn.cover[0] > 0.25)[3:-3, 3:-3]
        assert known.float().mean() > 0.75
        assert (drawn.colour[0] - truth).abs().mean(0)[3:-3, 3:-3][known].mean() < most
        assert ((drawn.depth[0] / far - 1).abs())[3:-3, 3:-3][known].median() < 0.02


def test_what_is_in_front_hides_the_rest_and_nothing_is_nothing() -> None:
    xyz = torch.tensor([[[0.0, 0.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.0, -2.0]]])
    three = Gaussians(xyz, torch.eye(3)[None], torch.full((1, 3), 0.5), torch.ones(1, 3))
    drawn = draw(three, torch.eye(4)[None], K, size=SIZE)
    middle = drawn.colour[0, :, HEIGHT // 2, WIDTH // 2]
    assert torch.allclose(middle, torch.tensor([0.0, 1.0, 0.0]), atol=1e-3)
    assert drawn.cover[0, 0, 0] == 0 == drawn.depth[0, 0, 0]
    behind = draw(three, camera(0, 20, 0)[None], K, size=SIZE)
    assert not behind.cover.any()
    assert behind.colour.shape == (1, 3, *SIZE)


def test_places_sizes_and_opacities_learn_from_another_view() -> None:
    """With colours that are given: what is wrong with a picture from elsewhere is depth's fault."""
    here, there = camera(0, 0, 0), camera(0.8, 0, -8)
    colour, depth = room(here)
    truth, _ = room(there)
    scale = torch.tensor(0.2, requires_grad=True)  # of the logarithm of depth
    size, opacity = torch.tensor(0.8, requires_grad=True), torch.tensor(0.9, requires_grad=True)
    optim = torch.optim.Adam([scale, size, opacity], lr=0.02)
    losses = []
    for _ in range(25):
        made = blobs(colour, depth * scale.exp(), here)
        made = Gaussians(made.xyz, made.colour, made.radius * size, opacity.expand_as(made.radius))
        drawn = draw(made, there[None], K, size=SIZE, most=2)
        error = (drawn.colour[0] - truth).abs().mean(0) * drawn.cover[0].detach()
        loss = error.sum() / drawn.cover.detach().sum()
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert abs(scale.item()) < 0.1
    assert size.grad is not None
    assert opacity.grad is not None
    assert size.grad * opacity.grad != 0
