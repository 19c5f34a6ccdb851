"""Recordings are encoded once; a folder of them is one too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from tests.training.test_stages import SPEC, record
from worldenv.data.schema import shard_paths
from worldenv.memory.config import MemoryConfig
from worldenv.models.heads import DepthConfig, HeadConfigs
from worldenv.models.presets import PRESETS
from worldenv.training.encode import encode_recording, recording_digest, recording_name
from worldenv.training.renders import RendersConfig
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


def test_renders_alone_are_made_anew_where_they_alone_change(tmp_path: Path) -> None:
    """Stages that roll out need what latents show, and no renders: after a stage that has both nothing is made."""
    torch.manual_seed(0)
    config = WorldConfig(
        spec=SPEC,
        vae=PRESETS["tiny"].vae,
        dit=replace(PRESETS["tiny"].dit, render_input=True),
        heads=HeadConfigs(depth=DepthConfig(widths=(8, 8, 8), num_blocks=1)),
        memory=MemoryConfig(temporal_latents=8, num_points=512),
    )
    world, recording, cache = World(config), record(tmp_path / "data", 2), tmp_path / "latents"

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in cache.glob("*/*")}

    whole = encode_recording(world, recording, cache, renders=RendersConfig())
    assert whole.renders is not None
    before = files()
    assert len(before) == 2
    shown = encode_recording(world, recording, cache)
    assert files() == before
    assert shown.renders is None
    assert shown.frames is not None
    assert whole.frames is not None
    assert torch.equal(shown.frames, whole.frames)
    again = encode_recording(world, recording, cache, renders=RendersConfig(generated=1.0))
    assert before.items() < files().items(), "one more file, of renders"
    assert again.renders is not None
    assert torch.equal(again.renders[:, 0], whole.renders[:, 0])
    assert not torch.equal(again.renders[:, 1], whole.renders[:, 1])
