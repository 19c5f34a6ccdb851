import json
from pathlib import Path

import pytest

from tests.conftest import TINY_RELEASE
from worldenv.engine import worldplay
from worldenv.eval.bench_worldplay import bench_worldplay
from worldenv.models.pretrained.worldplay import config_from_diffusers


def test_every_part_of_a_chunk_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(worldplay, "WORLDPLAY_5B", config_from_diffusers(TINY_RELEASE["transformer"]))
    monkeypatch.setattr(worldplay, "WAN22", TINY_RELEASE["vae"])
    bench_worldplay(tmp_path / "bench.json", num_layers=1, size=(32, 64), num_steps=2)
    report = json.loads((tmp_path / "bench.json").read_text())
    timing = report["timing"]
    assert all(value > 0 for value in timing.values())
    shared = timing["selection_ms"] + 4 * timing["denoise_step_ms"] + timing["decode_ms"]
    assert timing["worldplay_chunk_ms"] == pytest.approx(shared + timing["prefill_ms"], abs=0.05)
    assert timing["worldscape_chunk_ms"] == pytest.approx(shared + timing["place_ms"] + timing["record_ms"], abs=0.05)
    assert report["layers"] == 1
