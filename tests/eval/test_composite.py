"""The figure that distillation is stopped early by."""

from dataclasses import replace

import pytest
import torch

from worldenv.base.rng import derive_seed
from worldenv.eval.suites import composite as module
from worldenv.eval.suites.composite import MAY_LOSE, UNITS, composite
from worldenv.world.files import find_world
from worldenv.world.world import World


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.setattr(module, "NUM_WORLDS", 4)
    monkeypatch.setattr(module, "NUM_CHUNKS", 3)
    for cached in (module._prepared, module._of_parent):
        cached.cache_clear()


def test_a_world_beats_its_own_ruin_in_every_unit() -> None:
    world = World.from_pretrained("maze", dtype="auto")
    whole = composite(world)
    assert set(whole) == {*UNITS, "score"}
    torch.manual_seed(derive_seed(0, "ruin"))
    with torch.no_grad():
        for parameter in world.dit.blocks.parameters():
            parameter.add_(0.5 * parameter.std(correction=0) * torch.randn_like(parameter))
    ruined = composite(world)
    assert ruined["score"] < whole["score"] - 1
    beside = composite(world, find_world("maze"))
    known = ("seen_psnr", "return_psnr_gt")
    assert beside["lost_db"] == max(whole[name] - ruined[name] for name in known), "the same cases and noise"
    assert beside["lost_db"] > MAY_LOSE
    assert beside["score"] == -beside["lost_db"] < 0
    rolled = replace(world.config.sampler, rolling=True, stochastic=True)
    world.config = replace(world.config, sampler=rolled)
    assert composite(world, find_world("maze"))["score"] > 0, "a window is not held to chunk after chunk"
    worse = {name for name, unit in UNITS.items() if (whole[name] - ruined[name]) / unit > 0}
    assert worse >= {"seen_psnr", "frechet_pose_features", "action_score"}
