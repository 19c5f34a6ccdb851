from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worldenv.data.schema import Clip, has_sums, read_shard, shard_paths, write_shard


def make_clip(num_latents: int = 3, seed: int = 0, *, full: bool = True) -> Clip:
    rng, frames = np.random.default_rng(seed), 4 * num_latents - 3
    pictures = rng.integers(0, 256, (frames, 8, 8, 3), dtype=np.uint8)
    if not full:
        return Clip(frames=pictures, attributes={"poses": "absent"})
    return Clip(
        pictures,
        {
            "K": np.eye(3, dtype=np.float32),
            "c2w": np.eye(4)[None].repeat(num_latents, 0),
            "c2w_commanded": np.eye(4)[None].repeat(num_latents, 0),
            "depth": rng.random((frames, 8, 8)).astype(np.float16),
            "keys": rng.integers(0, 9, (num_latents, 2)),
            "camera": rng.random((num_latents, 5)).astype(np.float32),
            "reward": np.arange(num_latents, dtype=np.float32),
            "terminated": np.zeros(num_latents, bool),
            "truncated": np.arange(num_latents) == 2,
        },
        attributes={"kind": "loop", "map_seed": 7, "text": "a maze"},
    )


def test_clips_survive_the_disk_bit_by_bit(tmp_path: Path) -> None:
    clips = [make_clip(seed=s) for s in range(3)] + [make_clip(full=False)]
    write_shard(tmp_path / "shard-00000.h5", clips, attributes={"git": "abc"})
    again = list(read_shard(tmp_path / "shard-00000.h5"))
    assert len(again) == 4
    for clip, read in zip(clips, again, strict=True):
        assert clip.signals.keys() == read.signals.keys()
        for name, a in {"frames": clip.frames, **clip.signals}.items():
            b = {"frames": read.frames, **read.signals}[name]
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b)
        assert read.num_latents == 3
    assert again[0].attributes == {"kind": "loop", "map_seed": 7, "text": "a maze"}
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        assert "OpenCV" in file.attrs["conventions"]
        assert file.attrs["git"] == "abc"


def test_clips_come_in_order(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.h5", [make_clip(seed=s) for s in range(12)], attributes={})
    for seed, clip in enumerate(read_shard(tmp_path / "s.h5", only=("frames",))):
        np.testing.assert_array_equal(clip.frames, make_clip(seed=seed).frames)
        assert not clip.signals


def test_frames_can_be_left_out(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.h5", [make_clip(4)], attributes={})
    (clip,) = read_shard(tmp_path / "s.h5", only=("c2w",))
    assert clip.num_latents == 4


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_truncated_shards_are_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "s.h5"
    write_shard(path, [make_clip()], attributes={})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"s\.h5: not a readable shard"):
        list(read_shard(path))


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for other in (9, True, 1.0, "1", [1]):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.attrs["format"] = other
        with pytest.raises(ValueError, match=r"format .*, this version reads 1"):
            list(read_shard(tmp_path / "s.h5"))


def test_a_failed_write_leaves_the_old_shard_whole(tmp_path: Path, full_disk: Any) -> None:
    """HDF5 itself crashes when its file cannot grow."""
    path = tmp_path / "s.h5"
    write_shard(path, [make_clip()], attributes={})
    with full_disk(1000), pytest.raises(OSError, match=r"s\.h5: could not be written .*; is the disk full"):
        write_shard(path, [make_clip(seed=1)], attributes={})
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]
    np.testing.assert_array_equal(next(read_shard(path)).frames, make_clip().frames)


def test_folders_without_shards_say_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="worldenv record"):
        shard_paths(tmp_path)


def test_only_the_shards_of_the_first_clips_are_listed(tmp_path: Path) -> None:
    for i, count in enumerate((2, 3, 1)):
        write_shard(tmp_path / f"shard-{i:05d}.h5", [make_clip(seed=s) for s in range(count)], attributes={})
    names = [f"shard-{i:05d}.h5" for i in range(3)]
    for clips, shards in ((None, 3), (1, 1), (2, 1), (3, 2), (5, 2), (6, 3), (99, 3)):
        assert [path.name for path in shard_paths(tmp_path, max_clips=clips)] == names[:shards]
    (tmp_path / names[0]).write_bytes(b"no shard")
    with pytest.raises(ValueError, match=r"shard-00000.h5: not a readable shard"):
        shard_paths(tmp_path, max_clips=3)


def test_values_that_are_not_as_written_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shard-00000.h5"
    write_shard(path, [make_clip()], attributes={})
    assert has_sums(path)
    with h5py.File(path, "r+") as file:
        file["clip_00000/reward"][1] = 3.0
    assert len(list(read_shard(path, only=("frames",)))) == 1
    with pytest.raises(ValueError, match=r"shard-00000\.h5: /clip_00000/reward is not as written"):
        list(read_shard(path))
    with h5py.File(path, "r+") as file:  # as an earlier version has it
        del file["clip_00000/reward"].attrs["sha256"]
    assert not has_sums(path)
    assert next(iter(read_shard(path))).signals["reward"][1] == 3.0


@pytest.mark.parametrize("how", ["external link", "soft link", "external storage", "virtual", "a clip"])
def test_shards_show_nothing_that_lies_elsewhere(tmp_path: Path, how: str) -> None:
    """A foreign shard would read files of this machine into frames."""
    path, secret = tmp_path / "shard-00000.h5", tmp_path / "secret"
    secret.write_bytes(bytes(range(9)))
    write_shard(tmp_path / "other.h5", [make_clip()], attributes={})
    write_shard(path, [make_clip()], attributes={})
    with h5py.File(path, "r+") as file:
        group = file["clip_00000"]
        if how == "a clip":
            file["clip_00001"] = h5py.ExternalLink("other.h5", "/clip_00000")
        elif how == "external link":
            group["more"] = h5py.ExternalLink("other.h5", "/clip_00000/reward")
        elif how == "soft link":
            group["more"] = h5py.SoftLink("/clip_00000/reward")
        elif how == "external storage":
            group.create_dataset("more", (9,), np.uint8, external=[(str(secret), 0, 9)])
        else:
            layout = h5py.VirtualLayout((3,), np.float32)
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "/clip_00000/reward", (3,))
            group.create_virtual_dataset("more", layout)
    with pytest.raises(ValueError, match=r"shard-00000\.h5: /clip_0000.*shards hold what they show"):
        list(read_shard(path, only=("frames",)))
