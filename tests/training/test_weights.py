from __future__ import annotations

import numpy as np
import pytest
import torch

from worldenv.data.schema import Clip
from worldenv.training.weights import LEAST_MOVED, WeightsConfig, carried, cell_weights

ACTION = {"action": np.zeros((9, 1), np.float32)}


def clip(frames: np.ndarray) -> Clip:
    return Clip(frames=frames, signals=ACTION, frames_per_latent=1)


def a_ball() -> np.ndarray:
    """A ball of 8 pixels a side that goes right by as many a frame, over something that appears and then stays."""
    frames = np.zeros((9, 24, 72, 3), np.uint8)
    for i in range(9):
        frames[i, 8:16, 8 * i : 8 * i + 8] = 255
        frames[i, 16:, :] = 128 if i else 0
    return frames


def test_what_moves_counts_as_often_as_it_is_rare() -> None:
    weight = cell_weights(clip(a_ball()), WeightsConfig(moved=1.0), cell=8)
    moved = torch.zeros(9, 3, 9, dtype=torch.bool)
    moved[1, 2] = True
    for i in range(1, 9):
        moved[i, 1, i - 1 : i + 1] = True
    assert weight.shape == (9, 1, 3, 9)
    assert max(weight[:, 0][moved].std(), weight[:, 0][~moved].std()) < 1e-5
    assert float(weight[:, 0][moved].sum() / weight.sum()) == pytest.approx(0.5 + 0.5 * float(moved.float().mean()))
    assert float(weight.mean()) == pytest.approx(1)
    changed = cell_weights(clip(a_ball()), WeightsConfig(changed=1.0), cell=8)
    assert float(changed[5, 0, 2, 0]) > float(weight[5, 0, 2, 0])  # it changed once, and has not moved since


def test_no_cell_counts_above_all_measure() -> None:
    frames = np.zeros((9, 24, 72, 3), np.uint8)
    frames[5:, 0, 0] = 255
    weight = cell_weights(clip(frames), WeightsConfig(moved=1.0), cell=8)
    assert float(weight.max() / weight.min()) == pytest.approx(1 + 1 / 64 / LEAST_MOVED)
    still = cell_weights(clip(0 * frames), WeightsConfig(moved=1.0), cell=8)
    torch.testing.assert_close(still, torch.ones_like(still))


def test_objects_that_lie_where_none_lay_before_their_chunk_are_carried() -> None:
    """A thing of 4 x 4 pixels, label 6: it rests, goes by a pixel a frame from the fourth on, is hidden at the end."""
    labels = np.zeros((9, 24, 24), np.uint8)
    labels[:, 20:, 20:] = 3  # something else, that rests
    for i, at in enumerate((2, 2, 2, 2, 3, 4, 5, 6)):
        labels[i, 8:12, at : at + 4] = 6
    signals = ACTION | {"segmentation": labels}
    one = Clip(frames=np.zeros((9, 24, 24, 3), np.uint8), signals=signals, frames_per_latent=1)
    things = WeightsConfig(objects=1.0, segments=(6,))
    assert carried(one, things, chunk_latents=4).tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.5, 0.75, 0]
    assert carried(one, things, chunk_latents=1).tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25, 0]
    assert not carried(one, WeightsConfig(objects=1.0, segments=(3,)), chunk_latents=4).any()
    with pytest.raises(ValueError, match="has no segmentation"):
        carried(clip(a_ball()), things, chunk_latents=4)
