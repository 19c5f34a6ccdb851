from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.base.checkpoint import save_tensors
from worldenv.data.dataset import LatentDataset, PixelDataset, clip_pose_arrays
from worldenv.data.schema import Clip, write_shard


def make_latents(need: torch.Tensor) -> LatentDataset:
    n, f = need.shape
    return LatentDataset(
        torch.zeros(n, f, 1, 1, 1).half(), torch.eye(4).double().repeat(n, f, 1, 1), torch.zeros(n, f).long(), need
    )


def test_windows_are_consecutive_frames_of_one_clip(tmp_path: Path) -> None:
    clips = [
        Clip(frames=np.full((17, 8, 8, 3), 40 * c, np.uint8) + np.arange(17, dtype=np.uint8)[:, None, None, None])
        for c in range(3)
    ]
    write_shard(tmp_path / "shard-00000.h5", clips, attributes={})
    data = PixelDataset(tmp_path)
    windows = data.sample(64, 5, torch.Generator().manual_seed(0))
    assert windows.shape == (64, 5, 8, 8, 3)
    first = windows[:, :, 0, 0, 0].int()
    assert (first.diff(dim=1) == 1).all()
    assert {int(v) // 40 for v in first[:, 0]} == {0, 1, 2}
    assert {int(v) % 40 for v in first[:, 0]} == set(range(13)), "every offset comes up"
    assert torch.equal(windows, data.sample(64, 5, torch.Generator().manual_seed(0)))
    assert len(PixelDataset(tmp_path, max_clips=2).clips) == 2


def test_chunks_that_need_memory_are_those_above_the_threshold() -> None:
    need = torch.zeros(2, 10)
    need[0, 5:9] = torch.tensor([0.4, 0.2, 0.0, 0.2])  # clip 0, entry 2: mean 0.2
    need[1, 1:5] = 0.1  # clip 1, entry 1
    need[1, 9] = 1.0  # an incomplete chunk at the end
    needed, every = make_latents(need).chunks(chunk_latents=4, need=0.15)
    assert needed.tolist() == [[0, 2]]
    assert every.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert make_latents(need).chunks(chunk_latents=4, need=0.05)[0].tolist() == [[0, 2], [1, 1]]
    assert make_latents(need).chunks(chunk_latents=4, need=0.9)[0].shape == (0, 2)


def test_encoded_shards_are_joined_in_order(tmp_path: Path) -> None:
    for k in (1, 0):
        part = make_latents(torch.full((2, 5), float(k)))
        save_tensors(tmp_path / f"latents-shard-{k:05d}.safetensors", vars(part))
    data = LatentDataset.load(tmp_path)
    assert len(data) == 4
    assert data.need[:, 0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="no encoded shards"):
        LatentDataset.load(tmp_path / "none")


def test_clips_without_poses_are_refused() -> None:
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="no camera poses"):
        clip_pose_arrays(Clip(frames=frames))
    _, labels = clip_pose_arrays(Clip(frames=frames, c2w=np.zeros((2, 4, 4)), keys=np.array([[0, 0], [5, 3]])))
    assert labels.tolist() == [0, 48]
