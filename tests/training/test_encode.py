"""Recordings are encoded once; a folder of them is one too."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from tests.training.test_stages import SPEC, record
from worldenv.data.schema import shard_paths
from worldenv.models.presets import PRESETS
from worldenv.training.encode import encode_recording, recording_digest, recording_name
from worldenv.world.config import WorldConfig
from worldenv.world.world import World


def test_a_folder_of_recordings_is_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    world = World(WorldConfig(spec=SPEC, vae=PRESETS["tiny"].vae, dit=PRESETS["tiny"].dit))
    for name, count in (("plain", 2), ("classic", 3)):
        record(tmp_path / "both" / name, count)
    both = tmp_path / "both"
    assert [path.parent.name for path in shard_paths(both)] == ["classic", "plain"]
    assert recording_name(both) == "test, 3 clips, map seeds 0..2; test, 2 clips, map seeds 0..1"
    data = encode_recording(world, both, tmp_path / "latents")
    parts = [encode_recording(world, both / name, tmp_path / "latents") for name in ("classic", "plain")]
    assert torch.equal(data.latents, torch.cat([part.latents for part in parts]))
    assert len(encode_recording(world, both, tmp_path / "latents", max_clips=4)) == 4
    assert recording_digest(both) != recording_digest(both / "classic")
    shutil.copytree(both, tmp_path / "copy")
    assert recording_digest(tmp_path / "copy") == recording_digest(both)


def test_only_what_is_needed_is_encoded(tmp_path: Path) -> None:
    world = World(WorldConfig(spec=SPEC, vae=PRESETS["tiny"].vae, dit=PRESETS["tiny"].dit))
    for name in ("a", "b"):
        record(tmp_path / "data" / name, 2)
    encode_recording(world, tmp_path / "data", tmp_path / "latents", max_clips=2)
    assert [path.name for path in tmp_path.glob("latents/*/*")] == ["latents-a-shard-00000.safetensors"]
