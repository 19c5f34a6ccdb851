from dataclasses import replace
from typing import Any

import torch

from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.engine.rollout import generate_chunk, new_cache, prepare
from worldenv.geometry.camera import normalise_intrinsics
from worldenv.memory.context import Context
from worldenv.world.world import World


def inputs(world: World) -> tuple[Context, torch.Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    shape = world.latent_shape
    c2w = torch.eye(4, dtype=torch.float64).repeat(2, 4, 1, 1)
    past = Track(keys=torch.zeros(2, 6, 2).long(), c2w=c2w[:, :1].expand(-1, 6, 4, 4))
    entry = torch.tensor([[-1, 0, 1, 1, 1, 1]] * 2)
    context = Context(torch.randn(2, 6, *shape, generator=generator), past, entry)
    K = normalise_intrinsics(world.spec.K, width=world.spec.width, height=world.spec.height)
    noise = torch.randn(2, 4, *shape, generator=generator)
    ahead = Track(keys=torch.tensor([1, 0]).expand(2, 4, 2), c2w=c2w)
    rest = {"track": ahead, "K": K, "unit": 1.0, "latent_shape": shape}
    return context, noise, rest


def test_a_given_cache_changes_nothing(tiny_world: World) -> None:
    context, noise, rest = inputs(tiny_world)
    cache = new_cache(tiny_world.dit, (2, 6 + 4, *tiny_world.latent_shape), torch.device("cpu"))
    with torch.no_grad():
        made = [
            generate_chunk(prepare(tiny_world.dit, context, **rest, cache=c), noise, SamplerConfig())
            for c in (None, cache, cache)
        ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    assert made[0].shape == noise.shape


def test_gradients_flow_where_they_are_enabled(tiny_world: World) -> None:
    """Self-rollout trains through this function: context and noise both receive gradients."""
    context, noise, rest = inputs(tiny_world)
    context = replace(context, latents=context.latents.requires_grad_())
    noise.requires_grad_()
    latents = generate_chunk(prepare(tiny_world.dit, context, **rest), noise, SamplerConfig(num_steps=1))
    grads = torch.autograd.grad(latents.square().sum(), (context.latents, noise))
    assert grads[1].abs().sum() > 0
    assert grads[0][:, 1:].abs().sum() > 0
    assert grads[0][:, 0].abs().sum() == 0, "an empty slot has no influence"
