from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.base.checkpoint import save_tensors
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.path import FreeSpace
from worldenv.geometry.pose import yaw_pitch
from worldenv.tasks.navigate import distance_and_angle
from worldenv.world.starts import Starts, load_starts

pytest.importorskip("vizdoom", reason="the simulators need pip install worldenv[sims]")
pytestmark = pytest.mark.sim


def test_starts_are_held_out_views_with_goals_that_can_be_walked_to() -> None:
    from worldenv.sims import TEST_SEEDS, DoomDynamics, generate_maze
    from worldenv.world.starts import CLEARANCE, GOAL_DISTANCE, make_starts

    starts = make_starts(WorldSpec(), 4)
    (seeds, c2w), goals = starts.require_maps(), starts.goals
    assert goals is not None
    assert starts.frames.shape == (4, 48, 64, 3)
    assert all(int(s) in TEST_SEEDS for s in seeds)
    assert len(set(seeds.tolist())) == 4
    for i, seed in enumerate(seeds.tolist()):
        space = FreeSpace(generate_maze(seed).free, 1.0)
        here, goal = ((float(p[0, 3]), float(p[2, 3])) for p in (c2w[i], goals[i]))
        route = space.route(here, goal, clearance=CLEARANCE)
        assert GOAL_DISTANCE[0] <= len(route) <= GOAL_DISTANCE[1]
        assert space.contains(*goal, clearance=0.6)
        assert np.allclose(float(yaw_pitch(goals[i])[1]), 0)
    distance, _ = distance_and_angle(c2w, goals)
    assert (distance > 0.6).all(), "no start is at its goal"
    # The simulator twin begins on exactly these views.
    twin = DoomDynamics(1, map_seeds=seeds.tolist(), start_c2w=c2w, depth=False)
    for i in (2, 0):
        view = twin.reset(seeds=[5], starts=[i])
        torch.testing.assert_close(view.signals["c2w"][0, -1], c2w[i], atol=0.01, rtol=0)
        assert (view.frames[0, -1].int() - starts.frames[i].int()).abs().float().mean() < 1
    twin.close()


def test_start_views_of_recorded_clips_have_no_goals(tmp_path: Path) -> None:
    spec = WorldSpec()
    c2w = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    views = Starts(torch.zeros(3, spec.height, spec.width, 3, dtype=torch.uint8), c2w)
    save_tensors(tmp_path / "starts.safetensors", views.tensors())
    again = load_starts(tmp_path / "starts.safetensors", spec)
    assert again is not None
    assert again.goals is None
    with pytest.raises(ValueError, match="on no simulated maps"):
        again.require_maps()
    save_tensors(tmp_path / "starts.safetensors", {**views.tensors(), "map_seeds": torch.arange(3)})
    with pytest.raises(ValueError, match="goals missing"):
        load_starts(tmp_path / "starts.safetensors", spec)
