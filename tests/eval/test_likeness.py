"""Distances between distributions of hands' pictures: what they are over, on whose weights, and how small sets read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from worldenv.eval.frechet import frechet_distance
from worldenv.eval.learned import LearnedMetric, UsableMetric, available
from worldenv.eval.learned.distribution import Frechet, split_clips, split_frames
from worldenv.eval.suites.likeness import FEATURES, measure_likeness, vae_features
from worldenv.models.codec import to_pixels
from worldenv.models.vae import VAE, VAEConfig

COUNT, FRAMES = 8, 33


@pytest.fixture(scope="module")
def vae() -> VAE:
    """A VAE whose encoder is the principal components of patches, as training begins."""
    torch.manual_seed(0)
    made = VAE(VAEConfig(latent_channels=3, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)))
    made.init_linear(to_pixels(moving(2)))
    return made.eval().requires_grad_(False)


def moving(count: int) -> Tensor:
    """Clips of a bright square that moves through smooth noise, (N, T, 16, 24, 3) uint8, no two alike."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 60, (count, 1, 16, 24, 3), dtype=torch.uint8, generator=generator)
    frames = frames.repeat(1, FRAMES, 1, 1, 1)
    for clip in range(count):
        for frame in range(FRAMES):
            left = (3 * clip + frame // 2) % 16
            frames[clip, frame, 4:12, left : left + 8] = 160 + 8 * clip
    return frames


def arms(truth: Tensor) -> dict[str, Tensor]:
    """Show what happened, its first frame for ever, noise over it, and the next clip in its place."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 64, truth[:, 1:].shape, dtype=torch.uint8, generator=generator)
    return {
        "copy": truth[:, :1].expand_as(truth),
        "noisy": torch.cat([truth[:, :1], truth[:, 1:] // 2 + noise], 1),
        "shuffled": truth.roll(1, 0),
        "simulator": truth,
    }


def per_arm(split: Callable[[Tensor], Tensor], *, least: int) -> UsableMetric:
    """A published distance, on the mean and the largest of each colour in place of a network."""

    def features(pieces: Tensor) -> Tensor:
        flat = pieces.flatten(1, -2).double()
        return torch.cat([flat.mean(1), flat.amax(1)], 1)

    distance = Frechet(features, split, least=least, batch=5)
    return UsableMetric(metric=LearnedMetric(per="arm"), score=distance, sha256={})


def test_features_are_moments_of_the_encoders_means(vae: VAE) -> None:
    frames = moving(2)
    found = vae_features(vae, frames)
    means, _ = vae.posterior(to_pixels(frames))
    normal = ((means - vae.latent_mean[:, None, None, None]) / vae.latent_scale[:, None, None, None]).double().numpy()
    cells = normal.reshape(2, 3, -1, 2 * 3)[:, :, 1:]  # (N, C, F, h w), without the first frame's
    wanted = np.concatenate([cells.mean(3), np.sqrt(((cells - cells.mean(3, keepdims=True)) ** 2).mean(3))], 1)
    assert found.shape == (2, (FRAMES - 1) // 4, 6)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted.swapaxes(1, 2), atol=1e-4)
    assert np.ptp(found, axis=1).max() > 0.1, "they change while something moves"


def test_our_own_distance_is_there_without_weights_and_orders_arms(vae: VAE) -> None:
    shown = arms(moving(COUNT))
    found = measure_likeness(vae, shown, list(range(COUNT)), available(None)[0])
    assert not any(found.metrics.values())
    assert not found.skipped
    value = {arm: figures[FEATURES] for arm, figures in found.figures.items()}
    flat = {arm: vae_features(vae, frames).reshape(-1, 6) for arm, frames in shown.items()}
    for arm in shown:
        assert value[arm].value == pytest.approx(frechet_distance(flat[arm], flat["simulator"]), abs=1e-9)
    assert value["simulator"].summary() == {"mean": 0, "ci95": [0, 0], "n": COUNT}
    assert value["shuffled"].value == pytest.approx(0, abs=1e-6), "which clip is which, no distribution knows"
    assert min(value["copy"].value, value["noisy"].value) > 0.1
    low, high = value["noisy"].summary()["ci95"]
    assert 0 < low < value["noisy"].value < high


def test_halves_of_the_truth_stand_in_its_row_alone(vae: VAE) -> None:
    truth = moving(COUNT)
    found = measure_likeness(vae, arms(truth), list(range(COUNT)), {"fid": per_arm(split_frames, least=2)})
    for arm, figures in found.figures.items():
        halves = {f"{FEATURES}_halves", "fid_halves"} if arm == "simulator" else set()
        assert set(figures) == {FEATURES, "fid"} | halves
    simulator = found.figures["simulator"]
    assert simulator["fid"].value == pytest.approx(0, abs=1e-9)
    assert simulator["fid_halves"].value > 1
    assert simulator[f"{FEATURES}_halves"].value > 0.01
    assert simulator[f"{FEATURES}_halves"].summary()["n"] == 1, "one number, without an interval"
    # Alike clips leave nothing between halves but rounding.
    same = truth[:1].expand_as(truth)
    found = measure_likeness(vae, {"simulator": same}, list(range(COUNT)), {})
    assert found.figures["simulator"][f"{FEATURES}_halves"].value == pytest.approx(0, abs=1e-9)


def test_published_distances_are_over_what_comes_after_the_first_frame(vae: VAE) -> None:
    truth = moving(COUNT)
    shown = {**arms(truth), "black_start": torch.cat([torch.zeros_like(truth[:, :1]), truth[:, 1:]], 1)}
    usable = {"fid": per_arm(split_frames, least=2), "fvd": per_arm(split_clips, least=2)}
    found = measure_likeness(vae, shown, list(range(COUNT)), usable)
    for name, split in (("fid", split_frames), ("fvd", split_clips)):
        assert found.figures["black_start"][name].value == pytest.approx(0, abs=1e-9)
        metric: Any = usable[name].score
        pieces = [split(shown[arm][:, 1:]) for arm in ("noisy", "simulator")]
        wanted = frechet_distance(*(metric.features(piece) for piece in pieces))
        assert found.figures["noisy"][name].value == pytest.approx(wanted)
        assert wanted > 1
    assert len(pieces[1]) == 2 * COUNT, "32 frames are two whole clips: the true first one shifts nothing"


def test_what_is_too_small_is_skipped_by_name(vae: VAE) -> None:
    truth, frames = moving(COUNT), FRAMES - 1
    few = {"fid": per_arm(split_frames, least=COUNT * frames + 1)}
    found = measure_likeness(vae, {"simulator": truth}, list(range(COUNT)), few)
    assert set(found.figures["simulator"]) == {FEATURES, f"{FEATURES}_halves"}
    assert set(found.skipped) == {"fid"}, "no more is said of its halves"
    assert f"{COUNT * frames} pieces, needs {COUNT * frames + 1}" in found.skipped["fid"]
    enough = {"fid": per_arm(split_frames, least=COUNT * frames)}
    found = measure_likeness(vae, {"simulator": truth}, list(range(COUNT)), enough)
    assert "fid" in found.figures["simulator"]
    assert set(found.skipped) == {"fid_halves"}
    assert f"{COUNT // 2 * frames} pieces" in found.skipped["fid_halves"]
    alone = measure_likeness(vae, {"simulator": truth[:1]}, [0], enough)
    assert set(alone.figures["simulator"]) == {FEATURES}
    single = measure_likeness(vae, {"simulator": truth[:1, :5]}, [0], {})
    assert not single.figures["simulator"]
    assert "1 latents are no distribution" in single.skipped[FEATURES]


def test_values_of_trajectories_are_metrics_of_arms(vae: VAE) -> None:
    def brightness(frames: Tensor, truth: Tensor) -> Tensor:
        return frames.double().mean((1, 2, 3, 4))

    usable = {"brightness": UsableMetric(metric=LearnedMetric(per="trajectory"), score=brightness, sha256={})}
    shown = arms(moving(COUNT))
    found = measure_likeness(vae, shown, list(range(COUNT)), usable)
    for arm, frames in shown.items():
        np.testing.assert_allclose(found.metrics[arm]["brightness"], frames[:, 1:].double().mean((1, 2, 3, 4)))
        assert "brightness" not in found.figures[arm]
    assert "brightness_halves" not in found.figures["simulator"]
