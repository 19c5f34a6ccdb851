import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from worldenv.models.causal_conv import VAECache
from worldenv.models.codec import to_frames, to_pixels
from worldenv.models.patches import channel_to_space, channel_to_time, fold, space_to_channel, time_to_channel, unfold
from worldenv.models.vae import VAE, VAEConfig

CONFIG = VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8))
HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def vae() -> VAE:
    """Random weights everywhere, zero-initialised layers included, and a normalisation that matters."""
    torch.manual_seed(0)
    made = VAE(CONFIG)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.15)
    made.latent_mean.normal_()
    made.latent_scale.uniform_(0.5, 2)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    shape = (2, 6, CONFIG.latent_channels, HEIGHT // 8, WIDTH // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(2, 13, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2)) * 2 - 1


def compositions(total: int) -> list[tuple[int, ...]]:
    return [c for k in range(1, total + 1) for c in itertools.product(range(1, total + 1), repeat=k) if sum(c) == total]


def test_shapes(vae: VAE, latents: torch.Tensor, pixels: torch.Tensor) -> None:
    assert vae.decode(latents).shape == (2, 21, 3, HEIGHT, WIDTH)
    assert vae.encode(pixels).shape == (2, 4, CONFIG.latent_channels, HEIGHT // 8, WIDTH // 8)


@pytest.mark.parametrize("chunks", [c for c in compositions(6) if len(c) <= 3] + [(1, 1, 1, 1, 1, 1), (1, 4, 1)])
def test_streaming_decode_equals_decoding_the_whole_clip(
    vae: VAE, latents: torch.Tensor, chunks: tuple[int, ...]
) -> None:
    cache = VAECache()
    parts = [vae.decode(part, cache) for part in latents.split(list(chunks), 1)]
    assert [p.shape[1] for p in parts] == [4 * c - 3 * (i == 0) for i, c in enumerate(chunks)]
    torch.testing.assert_close(torch.cat(parts, 1), vae.decode(latents), atol=1e-4, rtol=0)


def test_decoding_needs_its_past(vae: VAE, latents: torch.Tensor) -> None:
    """The cache matters: without it the same latents give other frames."""
    alone = vae.decode(latents[:, 3:])[:, -1]
    assert (alone - vae.decode(latents[:, :4])[:, -1]).abs().max() > 1e-2


def test_cached_rows_can_be_replaced(vae: VAE, latents: torch.Tensor) -> None:
    """Restarting row 0 leaves row 1 bit-identical and row 0 as fresh."""
    cache, fresh = VAECache(), VAECache()
    vae.decode(latents[:, :3], cache)
    undisturbed = VAECache([t.clone() for t in cache.tensors])
    vae.decode(latents[:1, 5:], fresh)
    cache.write(torch.tensor([0]), fresh)
    after = vae.decode(latents[:, 3:4], cache)
    assert torch.equal(after[1], vae.decode(latents[:, 3:4], undisturbed)[1])
    begun = vae.decode(torch.stack([latents[0, 5], latents[0, 3]])[None])[:, 1:]
    torch.testing.assert_close(after[:1], begun, atol=1e-4, rtol=0)


def test_writing_into_an_empty_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="empty cache"):
        VAECache().write(torch.tensor([0]), VAECache([torch.zeros(1)]))


@pytest.mark.parametrize("latent", [0, 1, 3])
def test_decoder_is_causal(vae: VAE, latents: torch.Tensor, latent: int) -> None:
    """Frames of latent f have no gradient to later latents, and have one to itself and the one before."""
    z = latents[:, :5].clone().requires_grad_()
    frames = vae.decode(z)[:, : 1 + 4 * latent]
    (gradient,) = torch.autograd.grad(frames[:, -1].square().sum(), z)
    size = gradient.abs().amax((0, 2, 3, 4))
    assert (size[latent + 1 :] == 0).all()
    assert (size[max(0, latent - 1) : latent + 1] > 0).all()


@pytest.mark.parametrize("latent", [0, 1, 2])
def test_encoder_is_causal(vae: VAE, pixels: torch.Tensor, latent: int) -> None:
    x = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(vae.encode(x)[:, latent].square().sum(), x)
    size = gradient.abs().amax((0, 2, 3, 4))
    last = 4 * latent
    assert (size[last + 1 :] == 0).all()
    assert (size[max(0, last - 3) : last + 1] > 0).all()


def test_the_first_frame_stands_alone(vae: VAE, pixels: torch.Tensor) -> None:
    torch.testing.assert_close(vae.encode(pixels)[:, :1], vae.encode(pixels[:, :1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [2, 4, 12])
def test_frame_counts_other_than_4n_plus_1_are_refused(vae: VAE, pixels: torch.Tensor, num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"4N \\+ 1 frames, got {num_frames}"):
        vae.encode(pixels[:, :num_frames])


def test_normalisation_is_undone_by_decoding(vae: VAE, latents: torch.Tensor) -> None:
    """Normalised latents carry no trace of the scale that the decoder sees."""
    plain = VAE(CONFIG).requires_grad_(False)
    plain.load_state_dict({**vae.state_dict(), "latent_mean": torch.zeros(4), "latent_scale": torch.ones(4)})
    torch.testing.assert_close(vae.decode(plain_to(vae, latents)), plain.decode(latents), atol=1e-4, rtol=0)


def plain_to(vae: VAE, latents: torch.Tensor) -> torch.Tensor:
    return vae.normalise(latents)


@pytest.fixture(scope="module")
def low_rank() -> torch.Tensor:
    """Clips whose 4x8x8 patches span as many dimensions as there are latent channels."""
    generator = torch.Generator().manual_seed(3)
    basis = torch.randn(CONFIG.latent_channels, 768, generator=generator) * 0.1
    weights = torch.randn(6, 4, 2, 3, CONFIG.latent_channels, generator=generator)
    clips = unfold((weights @ basis + 0.2).movedim(-1, 1)).transpose(1, 2)
    return torch.cat([clips[:, :1], clips], 1)  # (6, 17, 3, 16, 24)


def test_linear_maps_start_as_orthonormal_principal_components(low_rank: torch.Tensor) -> None:
    made = VAE(CONFIG)
    made.init_linear(low_rank)
    into = made.encoder.linear.conv.weight.flatten(1)
    out = made.decoder.linear.conv.weight.flatten(1)
    torch.testing.assert_close(into @ into.T, torch.eye(CONFIG.latent_channels), atol=1e-5, rtol=0)
    torch.testing.assert_close(into, out.T)
    patches = fold(low_rank[:, 1:].transpose(1, 2))
    with torch.no_grad():
        code = made.encoder.linear(patches, VAECache())
        again = made.decoder.linear(code, VAECache())
    torch.testing.assert_close(again, patches, atol=1e-4, rtol=0)
    spread = code.movedim(1, 0).flatten(1).var(1)
    assert (spread.diff() <= 1e-6).all(), "components in order of variance"
    torch.testing.assert_close(code.mean((0, 2, 3, 4)), torch.zeros(CONFIG.latent_channels), atol=1e-4, rtol=0)


def test_a_fresh_vae_reconstructs_as_well_as_its_components(low_rank: torch.Tensor) -> None:
    """Training begins at the quality of PCA: the networks on top of the linear maps start at zero."""
    torch.manual_seed(0)
    made = VAE(CONFIG).requires_grad_(False)
    made.init_linear(low_rank)
    again = made.decode(made.encode(low_rank))
    torch.testing.assert_close(again[:, 1:], low_rank[:, 1:], atol=1e-3, rtol=0)


def test_folds_are_inverses() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 16, 24, generator=generator)
    assert torch.equal(channel_to_space(space_to_channel(x)), x)
    assert torch.equal(channel_to_time(time_to_channel(x)), x)
    assert torch.equal(unfold(fold(x)), x)
    assert fold(x).shape == (2, 768, 2, 2, 3)


def test_a_fold_gathers_one_patch_per_cell() -> None:
    x = torch.zeros(1, 3, 8, 16, 16)
    x[:, :, 4:8, 8:16, 0:8] = 1
    folded = fold(x)[0]
    assert (folded[:, 1, 1, 0] == 1).all()
    assert folded.sum() == 768


def test_frames_and_pixels_are_inverses() -> None:
    frames = torch.arange(256, dtype=torch.uint8).view(1, 8, 32, 1).expand(1, 8, 32, 3)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 3, 8, 32)
    assert (float(pixels.min()), float(pixels.max())) == (-1.0, 1.0)
    assert torch.equal(to_frames(pixels), frames)
    assert (
        to_frames(torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten().tolist()
        == [0] * 3 + [255] * 3
    )


def test_a_cell_may_cover_sixteen_pixels_each_way() -> None:
    torch.manual_seed(0)
    vae = VAE(replace(CONFIG, stride=16)).eval()
    for parameter in vae.parameters():
        nn.init.normal_(parameter, std=0.05)
    pixels = torch.rand(2, 13, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(pixels)
        assert latents.shape == (2, 4, 4, 2, 3)
        assert vae.encode_chunk(pixels[:, 1:]).shape == (2, 3, 4, 2, 3)
        whole, cache = vae.decode(latents), VAECache()
        assert whole.shape == pixels.shape
        parts = [vae.decode(part, cache) for part in latents.split([1, 2, 1], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)
    vae.init_linear(pixels)
    assert (vae.spatial_factor, vae.config.patch_dim) == (16, 3072)
    with pytest.raises(ValueError, match="stride=12 must be 8 or 16"):
        replace(CONFIG, stride=12)
