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
    parts = ("selection_ms", "prefill_ms", "denoise_step_ms", "decode_ms")
    assert all(timing[part] > 0 for part in parts)
    whole = sum(timing[part] for part in parts) + 3 * timing["denoise_step_ms"]
    assert timing["chunk_ms"] == pytest.approx(whole, abs=0.05)
    assert report["layers"] == 1
