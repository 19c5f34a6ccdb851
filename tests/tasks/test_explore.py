"""Explore: floor that is seen for the first time is rewarded, once."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import worldenv  # noqa: F401  (registers the ids)
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.pose import look
from worldenv.tasks.base import Start
from worldenv.tasks.explore import GRID, Explore
from worldenv.world.world import World

SPEC = WorldSpec()


def pose(x: float, z: float, yaw_deg: float = 0.0) -> Tensor:
    position = torch.tensor([[x, -1.28, z]], dtype=torch.float64)
    return look(position, torch.deg2rad(torch.tensor([yaw_deg], dtype=torch.float64)))


def view(c2w: Tensor, metres: float) -> Chunk:
    """A chunk whose last frame shows a wall so far ahead; the frames before it show another."""
    depth = torch.stack([torch.full((1, 48, 64), 9.0), torch.full((1, 48, 64), metres)], 1)
    return Chunk(torch.zeros(1, 2, 48, 64, 3, dtype=torch.uint8), {"c2w": c2w[:, None], "depth": depth})


def begun(task: Explore, metres: float = 3.0) -> dict[str, Tensor]:
    present = {"c2w": pose(0, 0), "depth": torch.full((1, 48, 64), metres)}
    return task.reset(Start(torch.zeros(1, 48, 64, 3, dtype=torch.uint8), present, {}, SPEC.K))


def test_what_was_seen_is_not_paid_for_again() -> None:
    task = Explore()
    state = begun(task)
    assert float(task.step(state, view(pose(0, 0), 3.0)).reward) == 0
    assert float(task.step(state, view(pose(0, 0), 2.0)).reward) == 0  # less than before
    turned = task.step(state, view(pose(0, 0, 90), 3.0))
    assert float(turned.reward) == pytest.approx(3.0**2 / task.area_scale, rel=0.25)  # a triangle, 6 m wide, 3 m deep
    again = task.step(turned.state, view(pose(0, 0, 90), 3.0))
    assert float(again.reward) == 0


def test_enough_ends_an_episode() -> None:
    task = Explore(enough=5.0)
    outcome = task.step(begun(task), view(pose(0, 0, 90), 3.0))
    assert bool(outcome.terminated)
    assert bool(outcome.success)
    assert float(outcome.state["area"]) == pytest.approx(float(outcome.reward) * task.area_scale)


def test_views_reach_no_further_than_the_grid_trusts() -> None:
    task = Explore()
    near = task.step(begun(task), view(pose(0, 0, 90), GRID.reach * 0.9)).reward
    far = task.step(begun(task), view(pose(0, 0, 90), 50.0)).reward
    assert float(near) < float(far) < GRID.reach**2 / task.area_scale


def test_floor_beyond_the_grid_is_not_counted() -> None:
    task = Explore()
    assert float(task.step(begun(task), view(pose(1000, 0), 3.0)).reward) == 0


def test_a_world_without_depth_cannot_be_explored(tiny_world: World) -> None:
    with pytest.raises(ValueError, match="task Explore reads depth, and this world gives c2w"):
        gym.make_vec("worldenv/Explore-v0", num_envs=1, world=tiny_world)


def test_states_go_on_as_they_would_have(rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Explore-v0", num_envs=2, world=rendered_world)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(2):
        envs.step(envs.action_space.sample())
    inner = envs.unwrapped
    inner.restore_state(inner.clone_state([0]), [1])  # type: ignore[attr-defined]
    *_, rewards = [envs.step(np.array([4, 4]))[1] for _ in range(2)]
    assert rewards[0] == rewards[1]
    envs.close()


@pytest.mark.usefixtures("sims")
def test_the_twin_pays_by_true_depth(maze_world: World, rendered_world: World) -> None:
    world = World(
        replace(rendered_world.config), vae=rendered_world.vae, dit=rendered_world.dit, heads=rendered_world.heads
    )
    world.starts = maze_world.starts
    envs = gym.make_vec("worldenv/ExploreSim-v0", num_envs=3, world=world)
    envs.reset(seed=0, options={"start": [0, 1, 2]})
    total = np.zeros(3)
    for _ in range(8):  # a whole turn
        total += envs.step(np.full(3, 3))[1]
    assert (total > 1).all()
    for _ in range(8):
        again = envs.step(np.full(3, 3))[1]
    assert (again < 0.1).all()
    envs.close()
