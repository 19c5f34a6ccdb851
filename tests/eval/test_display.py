"""Suite ``display`` on a world whose display decoder has learned nothing, which interpolates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.eval.suites import display
from worldenv.eval.suites.display import run_display, sharpened, smooth
from worldenv.models.heads import DisplayConfig, DisplayHead, HeadConfigs
from worldenv.world.world import World

SMALL = DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1)


@pytest.mark.usefixtures("sims")
def test_a_display_that_interpolates_is_worth_as_much(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "NUM_CHUNKS", 1)
    monkeypatch.setattr(display, "STILL_CHUNKS", 1)
    config = replace(tiny_world.config, heads=HeadConfigs(display=SMALL))
    parts = {"vae": tiny_world.vae, "dit": tiny_world.dit, "starts": tiny_world.starts}
    world = World(config, heads={"display": DisplayHead(SMALL).requires_grad_(False)}, **parts)
    run_display(world, tmp_path, num_worlds=1, first_seed=964_100)
    report = json.loads((tmp_path / "report.json").read_text())
    arms = report["arms"]
    assert len(arms) == 9
    for source in ("truth", "vae", "generated"):
        own, bicubic = arms[f"display_{source}"], arms[f"bicubic_{source}"]
        for key in own:
            assert own[key]["mean"] == pytest.approx(bicubic[key]["mean"], rel=1e-3, abs=1e-3), key
        assert arms[f"lanczos_unsharp_{source}"]["sharpness_ratio"]["mean"] > bicubic["sharpness_ratio"]["mean"]
    assert arms["bicubic_truth"]["psnr"]["mean"] > 20
    assert "psnr" not in arms["bicubic_generated"], "what is invented has no truth"
    assert (tmp_path / "vae.png").stat().st_size > 0
    assert (tmp_path / "generated.png").stat().st_size > 0
    with pytest.raises(ValueError, match="worldenv train display"):
        run_display(tiny_world, tmp_path, num_worlds=1, first_seed=964_100)


def test_enlarging_keeps_a_flat_frame_and_its_shape() -> None:
    frames = torch.full((2, 3, 8, 12, 3), 77, dtype=torch.uint8)
    for way in (smooth, sharpened):
        assert torch.equal(way(frames), torch.full((2, 3, 32, 48, 3), 77, dtype=torch.uint8))
    frames[..., 6:, :] = 140
    assert np.ptp(sharpened(frames).numpy()) > np.ptp(smooth(frames).numpy()), "an unsharp mask overshoots"
