from pathlib import Path

import pytest
import torch

from worldenv.models.causal_conv import VAECache
from worldenv.world.world import World


@pytest.fixture(scope="module")
def vae(release_dir: Path):
    return World.from_worldplay(release_dir).vae


def latents(count: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, count, 4, 2, 4, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_streaming_equals_what_diffusers_decodes_at_once(vae) -> None:
    z = latents(4)
    whole = vae.vae.decode(vae.denormalise(z).transpose(1, 2)).sample.transpose(1, 2)
    cache = VAECache()
    streamed = torch.cat([vae.decode(latent, cache) for latent in z.split(1, 1)], 1)
    assert streamed.shape == (2, 13, 3, 32, 64)
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rows_begin_anew_without_the_others(vae) -> None:
    """Row 1 starts over after two latents; both rows then decode as if they had been alone."""
    z, fresh = latents(5), latents(3, 1, seed=1)
    alone = vae.decode(z[:1]), vae.decode(fresh)
    cache, new = VAECache(), VAECache()
    parts = [vae.decode(z[:, :2], cache)]
    first = vae.decode(fresh[:, :1], new)
    cache.write(torch.tensor([1]), new)
    parts.append(vae.decode(torch.cat([z[:1, 2:4], fresh[:, 1:]]), cache))
    torch.testing.assert_close(torch.cat([p[:1] for p in parts], 1), alone[0][:, :13], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([first, parts[1][1:]], 1), alone[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_encoding_normalises(vae) -> None:
    pixels = torch.rand(1, 5, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = vae.encode(pixels)
    assert z.shape == (1, 2, 4, 2, 4)
    torch.testing.assert_close(vae.normalise(vae.denormalise(z)), z)
