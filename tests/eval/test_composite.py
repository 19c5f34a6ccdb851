"""The figure that distillation is stopped early by."""

import pytest
import torch

from worldenv.base.rng import derive_seed
from worldenv.engine.world import World, find_world
from worldenv.eval import composite as module
from worldenv.eval.composite import MAY_LOSE, UNITS, composite


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.setattr(module, "NUM_WORLDS", 4)
    monkeypatch.setattr(module, "NUM_CHUNKS", 3)
    module._prepared.cache_clear()


def test_a_world_beats_its_own_ruin_in_every_unit() -> None:
    world = World.from_pretrained("maze")
    whole = composite(world)
    assert set(whole) == {*UNITS, "score"}
    torch.manual_seed(derive_seed(0, "ruin"))
    with torch.no_grad():
        for parameter in world.dit.blocks.parameters():
            parameter.add_(0.5 * parameter.std(correction=0) * torch.randn_like(parameter))
    ruined = composite(world)
    assert ruined["score"] < whole["score"] - 1
    beside = composite(world, find_world("maze"))
    assert beside["lost_db"] > MAY_LOSE
    assert beside["score"] == -beside["lost_db"] < 0
    worse = {name for name, unit in UNITS.items() if (whole[name] - ruined[name]) / unit > 0}
    assert worse >= {"seen_psnr", "frechet_pose_features", "action_score"}
