"""The rolling window's mechanics against a plain transcription."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldenv.diffusion.sampler import roll_window, sample_chunk
from worldenv.diffusion.schedule import SamplerConfig, inference_sigmas

SHAPE = (2, 3, 2, 4, 4)  # B, F, C, h, w of a chunk


def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
    """Something that mixes all chunks and depends on the level of each latent."""
    return torch.tanh(x + x.mean((1, 2), keepdim=True)) * (1 + timesteps[..., None, None, None] / 1000)


class Noise:
    """Fresh noise, chunk by chunk, from a seed."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, num_chunks: int) -> Tensor:
        batch, latents, *rest = SHAPE
        return torch.randn(batch, num_chunks * latents, *rest, generator=self.generator)


def transcription(num_emitted: int, config: SamplerConfig) -> list[Tensor]:
    """Rolling Forcing's loop: blocks as [latents, level], ramped up at the start, one of them emitted per pass."""
    steps, noise, emitted = config.num_steps, Noise(), list[Tensor]()
    levels = [float(s) for s in inference_sigmas(config)]
    window: list[tuple[Tensor, int]] = []
    while len(emitted) < num_emitted:
        window.append((noise(1), 0))
        x = torch.cat([block for block, _ in window], 1)
        timesteps = torch.cat([torch.full(SHAPE[:2], 1000 * levels[k]) for _, k in window], 1)
        v = velocity(x, timesteps).split(SHAPE[1], 1)
        x0 = [block - levels[k] * v[i] for i, (block, k) in enumerate(window)]
        lowered = [k + 1 for _, k in window]
        if lowered[0] == steps:
            emitted.append(x0.pop(0))
            lowered.pop(0)
        fresh = noise(len(x0)).split(SHAPE[1], 1) if x0 else []
        window = [((1 - levels[k]) * x + levels[k] * n, k) for x, k, n in zip(x0, lowered, fresh, strict=True)]
    return emitted


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_the_window_rolls_as_transcribed(num_steps: int) -> None:
    config, draw = SamplerConfig(num_steps=num_steps, shift=3.0, stochastic=True, rolling=True), Noise()
    x, made, passes = torch.zeros(SHAPE)[:, :0], list[Tensor](), 0
    while len(made) < 5:
        x0, x = roll_window(velocity, x, config, draw)
        passes += 1
        if x.shape[1] == num_steps * SHAPE[1]:
            assert torch.equal(x[:, : SHAPE[1]], x0[:, : SHAPE[1]]), "the front has come to level 0"
            made.append(x[:, : SHAPE[1]])
            x = x[:, SHAPE[1] :]
    assert passes == num_steps - 1 + 5, "one chunk per pass after ramp-up"
    for found, wanted in zip(made, transcription(5, config), strict=True):
        torch.testing.assert_close(found, wanted)


def test_levels_rise_from_the_front_to_the_back() -> None:
    config, seen = SamplerConfig(num_steps=4, shift=2.0, stochastic=True, rolling=True), list[Tensor]()

    def noting(x: Tensor, timesteps: Tensor) -> Tensor:
        seen.append(timesteps[0, :: SHAPE[1]])
        return velocity(x, timesteps)

    x, draw = torch.zeros(SHAPE)[:, :0], Noise()
    for _ in range(4):
        x = roll_window(noting, x, config, draw)[1]
    levels = (1000 * inference_sigmas(config)).float()
    assert [len(t) for t in seen] == [1, 2, 3, 4]
    for timesteps in seen:
        assert torch.equal(timesteps, levels[: len(timesteps)].flip(0))


def test_one_level_is_the_ordinary_sampler() -> None:
    config, draw = SamplerConfig(num_steps=1, stochastic=True, rolling=True), Noise()
    for _ in range(2):
        noise = Noise()
        noise.generator.set_state(draw.generator.get_state())
        x = roll_window(velocity, torch.zeros(SHAPE)[:, :0], config, draw)[1]
        assert torch.equal(x, sample_chunk(velocity, noise(1), config, renoise=lambda: torch.empty(0)))
        assert torch.equal(draw.generator.get_state(), noise.generator.get_state()), "and no more noise is drawn"


def test_windows_need_the_sampler_that_renoises() -> None:
    for wrong in ({"stochastic": False}, {"stochastic": True, "noise_horizon": 8}):
        with pytest.raises(ValueError, match="rolling window"):
            SamplerConfig(rolling=True, **wrong)  # type: ignore[arg-type]
