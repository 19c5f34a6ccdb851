import json
from pathlib import Path

import pytest

from tests.conftest import TINY_RELEASE
from worldenv.bench.worldplay import bench_worldplay
from worldenv.models.pretrained.worldplay import config_from_diffusers
from worldenv.world import worldplay


def test_every_part_of_a_chunk_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(worldplay, "WORLDPLAY_5B", config_from_diffusers(TINY_RELEASE["transformer"]))
    monkeypatch.setattr(worldplay, "WAN22", TINY_RELEASE["vae"])
    bench_worldplay(tmp_path / "bench.json", num_layers=1, size=(32, 64), num_steps=2)
    report = json.loads((tmp_path / "bench.json").read_text())
    timing = report["timing"]
    assert all(value > 0 for value in timing.values())
    for policy, parts in (("worldplay", ["selection", "context"]), ("worldscape", ["selection", "context", "record"])):
        once = sum(timing[f"{policy}_{part}_ms"] for part in parts) + timing["decode_ms"]
        whole = once + 4 * timing[f"{policy}_denoise_step_ms"]
        assert timing[f"{policy}_chunk_ms"] == pytest.approx(whole, abs=0.05)
        assert f"{policy}_attention_ms" in timing
    assert report["layers"] == 1
