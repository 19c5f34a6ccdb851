"""Suite ``walls`` on a world of random weights and in the simulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worldenv.eval.suites import walls
from worldenv.eval.suites.walls import run_walls
from worldenv.world.world import World


@pytest.mark.usefixtures("sims")
def test_walks_are_compared_with_the_simulators(
    rendered_world: World, tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NUM_CHUNKS", 3), ("CLIP_LATENTS", 8), ("BATCH", 2)):
        monkeypatch.setattr(walls, name, value)
    run_walls(rendered_world, tmp_path, num_worlds=3, first_seed=950_200)
    report = json.loads((tmp_path / "report.json").read_text())
    arms = report["arms"]
    assert list(arms) == ["world", "true_depth", "commanded", "simulator"]
    assert arms["commanded"]["displacement_forward"]["mean"] == pytest.approx(3.0)
    for walk in ("forward", "random"):
        assert arms["simulator"][f"end_error_{walk}"]["mean"] == 0
        assert arms["simulator"][f"within_1m_{walk}"]["mean"] == arms["simulator"][f"on_floor_{walk}"]["mean"] == 1
        assert 0 <= report["cases"][f"seen_{walk}"] <= 3
    assert arms["true_depth"]["end_error_random"]["mean"] <= arms["commanded"]["end_error_random"]["mean"] + 1e-6
    assert (tmp_path / "walls.png").stat().st_size > 0
    with pytest.raises(ValueError, match=r"memory\.walls is off in world 'tiny'"):
        run_walls(tiny_world, tmp_path, num_worlds=1, first_seed=950_200)
