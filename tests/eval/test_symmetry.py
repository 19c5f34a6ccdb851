import math

import numpy as np
import pytest
import torch

from worldenv.eval.symmetry import memory_symmetry, pair_scores


def clip(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mse", "score"), [(0, 1), (1000, 1), (1500, 0.911), (2000, 0.819), (3000, 0.652), (5000, 0.400), (8000, 0.183)]
)
def test_scores_follow_the_published_calibration(mse: float, score: float) -> None:
    difference = math.sqrt(mse)
    low = np.zeros((1, 40, 40, 3))
    high = np.full_like(low, difference)
    dithered = np.floor(high + np.random.default_rng(0).random(high.shape)).astype(np.uint8)
    found = pair_scores(np.concatenate([low.astype(np.uint8), dithered]))
    assert float(found[0]) == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize("count", [2, 5, 8, 9])
@pytest.mark.parametrize("variant", ["paper", "engine"])
def test_it_equals_a_plain_transcription(count: int, variant: str) -> None:
    frames = clip(count)
    frames[count // 2 :] //= 2
    half, s = count // 2, []
    for i in range(half):
        error = float(((frames[i].astype(float) - frames[count - 1 - i].astype(float)) ** 2).mean())
        s.append(math.exp(-1e-4 * max(error - 1000, 0) ** 1.1))
    if variant == "paper":
        weights = [math.exp(0.1 * abs(i - (count - 1) / 2)) for i in range(half)]
        values = s
    else:
        per_frame = s + [1.0] * (count % 2) + s[::-1]
        values, weights = per_frame[1:], [math.exp(0.2 * k) for k in range(1, count)]
    wanted = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    found = memory_symmetry(frames, variant=variant)  # type: ignore[arg-type]
    assert found == pytest.approx(wanted, rel=1e-9)
    batch = memory_symmetry(torch.from_numpy(np.stack([frames, frames])), variant=variant)  # type: ignore[arg-type]
    np.testing.assert_allclose(batch, wanted)


def test_frozen_and_mirrored_clips_are_perfect_and_a_walk_away_is_not() -> None:
    out = clip(5)
    for variant in ("paper", "engine"):
        assert memory_symmetry(np.repeat(out[:1], 9, 0), variant=variant) == 1  # type: ignore[arg-type]
        assert memory_symmetry(np.concatenate([out, out[-2::-1]]), variant=variant) == 1  # type: ignore[arg-type]
        assert memory_symmetry(clip(9), variant=variant) < 0.5  # type: ignore[arg-type]


def test_bad_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="pass uint8"):
        memory_symmetry(clip(4).astype(np.float64))
    with pytest.raises(ValueError, match="no mirror"):
        memory_symmetry(clip(1))
    with pytest.raises(ValueError, match="choose 'paper' or 'engine'"):
        memory_symmetry(clip(4), variant="other")  # type: ignore[arg-type]
