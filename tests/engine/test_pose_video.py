"""The pose video as clean extra latents: seen by the coming chunk alone, equal however it is computed, never kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from worldenv.bodies.hand_model import HAND
from worldenv.dynamics.signals import POSE_VIDEO, Track
from worldenv.engine.rollout import Prepared, beside, prepare
from worldenv.memory.context import Context, condition, context_mask
from worldenv.models.dit import WorldDiT
from worldenv.models.types import DiTConfig

BATCH, SLOTS, CHUNK, SIZE = 2, 5, 2, (4, 4, 4)
K = torch.eye(3)
CONFIG = DiTConfig(
    latent_channels=4,
    width=24,
    num_layers=2,
    num_heads=2,
    ffn_dim=24,
    camera_branch=False,
    key_branch=False,
    codes={"joints": 26},
    pose_video=True,
)


@pytest.fixture(scope="module")
def dit() -> WorldDiT:
    torch.manual_seed(0)
    made = WorldDiT(CONFIG)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.15)
    return made.eval().requires_grad_(False)


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(BATCH, count, *SIZE, generator=torch.Generator().manual_seed(seed))


def track(count: int, seed: int, *, drawn: int | None = None) -> Track:
    joints = torch.rand(BATCH, count, 26, generator=torch.Generator().manual_seed(seed)) * HAND.limits[1].float()
    return Track({"joints": joints} | ({} if drawn is None else {POSE_VIDEO: noise(count, drawn)}))


def context() -> Context:
    return Context(noise(SLOTS, 1), track(SLOTS, 2), torch.tensor([0, 1, 1, 2, 2]).expand(BATCH, -1))


def staged(dit: WorldDiT, drawn: int = 4) -> Prepared:
    return prepare(dit, context(), track=track(CHUNK, 3, drawn=drawn), latent_shape=SIZE, K=K, unit=1.0)


def test_a_kept_context_is_one_pass_over_everything(dit: WorldDiT) -> None:
    x, times, drawn = noise(CHUNK, 5), torch.full((BATCH, CHUNK), 600.0), noise(CHUNK, 4)
    kept = staged(dit).velocity(x, times)
    past = context()
    cond = condition(past, track(CHUNK, 3), K=K, unit=1.0)
    now = cond.select(SLOTS, SLOTS + CHUNK)
    noisy = replace(cond, timesteps=torch.cat([cond.timesteps[:, :SLOTS], times], 1))
    mask = torch.zeros(BATCH, SLOTS + 2 * CHUNK, SLOTS + 2 * CHUNK, dtype=torch.bool)
    mask[:, :SLOTS, :SLOTS] = context_mask(past.entry)
    mask[:, SLOTS : SLOTS + CHUNK] = True  # the chunk sees all, its pose video among it
    mask[:, SLOTS + CHUNK :, SLOTS + CHUNK :] = torch.eye(CHUNK, dtype=torch.bool)  # which sees itself alone
    whole = dit(torch.cat([past.latents, x, drawn], 1), beside(noisy, now), mask=mask)
    torch.testing.assert_close(kept, whole[:, SLOTS : SLOTS + CHUNK], atol=2e-5, rtol=1e-4)


def test_it_is_told_from_what_is_remembered(dit: WorldDiT) -> None:
    x, times = noise(CHUNK, 5), torch.full((BATCH, CHUNK), 600.0)
    other = WorldDiT(CONFIG).eval().requires_grad_(False)
    other.load_state_dict(dit.state_dict() | {"pose_embedding": torch.zeros(CONFIG.width)})
    first = staged(dit).velocity(x, times)
    assert (first - staged(dit, drawn=9).velocity(x, times)).abs().max() > 1e-4
    assert (first - staged(other).velocity(x, times)).abs().max() > 1e-4


def test_gradients_reach_its_segment(dit: WorldDiT) -> None:
    made = WorldDiT(CONFIG)
    made.load_state_dict(dit.state_dict())
    prepared = staged(made).repeat(3)
    prepared.velocity(
        noise(CHUNK, 5).repeat(3, 1, 1, 1, 1), torch.full((3 * BATCH, CHUNK), 600.0)
    ).square().mean().backward()
    assert made.pose_embedding is not None
    assert made.pose_embedding.grad is not None
    assert made.pose_embedding.grad.abs().max() > 0
