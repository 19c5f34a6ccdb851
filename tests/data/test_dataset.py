from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.data.dataset import LatentDataset, MotionDataset, PixelDataset, clip_track
from worldenv.data.schema import Clip, write_shard
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.action import keys_to_label
from worldenv.geometry.pose import look


def make_latents(need: torch.Tensor) -> LatentDataset:
    n, f = need.shape
    track = Track(keys=torch.zeros(n, f, 2).long(), c2w=torch.eye(4).double().repeat(n, f, 1, 1))
    return LatentDataset(torch.zeros(n, f, 1, 1, 1).half(), track, need)


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


def test_encoded_shards_are_joined_in_order() -> None:
    parts = [make_latents(torch.full((2, 5), float(k))) for k in (0, 1)]
    parts[1].track["keys"][:] = 3
    shards = [
        {"latents": part.latents, "need": part.need} | {f"track.{name}": signal for name, signal in part.track.items()}
        for part in parts
    ]
    data = LatentDataset.join(shards)
    rendered = LatentDataset.join(
        [shard | {"renders": torch.full((2, 2, 5, 2, 1, 1), float(k)).half()} for k, shard in enumerate(shards)]
    )
    assert len(data) == 4
    assert data.need[:, 0].tolist() == [0, 0, 1, 1]
    assert data.track.keys() == {"keys", "c2w"}
    assert data.track["keys"][:, 0].tolist() == [[0, 0], [0, 0], [3, 3], [3, 3]]
    assert data.renders is None
    assert rendered.renders is not None
    assert rendered.renders[:, 0, 0, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert [len(part.head(3)) for part in (data, rendered)] == [3, 3]
    assert rendered.head(3).renders.shape[0] == 3  # type: ignore[union-attr]


def test_clips_without_poses_are_refused() -> None:
    frames, spec = np.zeros((5, 8, 8, 3), np.uint8), WorldSpec()
    keys, c2w = np.array([[0, 0], [5, 3]]), np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match="no keys or c2w"):
        clip_track(Clip(frames), spec)
    with pytest.raises(ValueError, match="no c2w;"):
        clip_track(Clip(frames, {"keys": keys}), spec)
    with pytest.raises(ValueError, match=r"'c2w' is torch.float64 \(1, 4, 4\)"):
        clip_track(Clip(frames, {"keys": keys, "c2w": c2w[:1]}), spec)
    track = clip_track(Clip(frames, {"keys": keys, "c2w": c2w}), spec)
    assert keys_to_label(track["keys"]).tolist() == [0, 48]


def test_motion_is_read_at_the_ends_of_latents(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            rng.integers(0, 256, (9, 8, 12, 3), dtype=np.uint8),
            {
                "c2w": look(torch.randn(3, 3).double(), torch.zeros(3).double()).numpy(),
                "depth": rng.uniform(1, 4, (9, 8, 12)).astype(np.float16),
            },
        )
        for _ in range(3)
    ]
    for k in range(3):
        write_shard(tmp_path / f"shard-{k:05d}.h5", clips[k : k + 1], attributes={})
    data = MotionDataset.load(tmp_path, cell=4, max_clips=2, through=lambda frames: 255 - frames)
    assert len(data) == 2
    assert torch.equal(data.frames[1], 255 - torch.from_numpy(clips[1].frames[[0, 4, 8]]))
    assert data.inverse_depth.shape == (2, 3, 2, 3)
    expected = (1 / clips[1].signals["depth"][4, 5:7, 9:11].astype(np.float32)).mean()
    assert float(data.inverse_depth[1, 1, 1, 2]) == pytest.approx(float(expected), rel=1e-5)
    frames, c2w, near = data.sample(32, 2, torch.Generator().manual_seed(0))
    for i in range(32):
        clip, start = next((n, t) for n in range(2) for t in range(2) if torch.equal(data.c2w[n, t], c2w[i, 0]))
        assert torch.equal(frames[i], data.frames[clip, start : start + 2])
        assert torch.equal(near[i], data.inverse_depth[clip, start : start + 2])
