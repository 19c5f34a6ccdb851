"""Walls in a world: what the depth head sees to be solid stops cameras that are stepped."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import worldenv  # noqa: F401  (registers the ids)
from tests.engine.test_engine import commands
from worldenv.engine.engine import Engine
from worldenv.memory.config import MemoryConfig
from worldenv.world.world import World

WALL = 1.2
"""Metres ahead of the camera at which everything stands that the head sees in these tests: a chunk would go one."""
FORWARD, TURN = [(1, 0)] * 3, [(0, 1)] * 3


def walled(world: World, *, walls: bool = True, policy: str = "worldplay") -> Engine:
    """Return an engine of three rows whose head sees a wall ahead, whatever the picture shows."""
    memory = replace(MemoryConfig(temporal_latents=8, num_points=2048), policy=policy)
    engine = Engine(world, 3, memory=memory, walls=walls)
    assert engine.history.views is not None
    engine.history.views.renderer.disturb = lambda depth, error: torch.full_like(depth, WALL)
    engine.reset(seeds=[0, 1, 2], starts=[0, 1, 2])
    return engine


def gone(engine: Engine, start: Tensor) -> Tensor:
    return (engine.c2w[:, :3, 3] - start[:, :3, 3]).norm(dim=-1)


def test_a_wall_stops_those_who_walk_into_it(rendered_world: World) -> None:
    engine = walled(rendered_world)
    start = engine.c2w.clone()
    told = commands(engine, FORWARD)
    chunk = engine.step(told)
    assert torch.equal(chunk.signals["c2w"][:, :2], told["c2w"][:, :2])
    assert not torch.equal(chunk.signals["c2w"], told["c2w"])
    assert torch.equal(chunk.signals["c2w"][:, -1], engine.c2w)
    radius = engine.memory.floor.radius
    assert (gone(engine, start) <= WALL - radius + 0.13).all()
    assert torch.equal(engine.history.bank.track["keys"][:, 1:5], torch.tensor([1, 0]).expand(3, 4, 2))  # commanded


def test_turns_are_never_stopped(rendered_world: World) -> None:
    engine = walled(rendered_world)
    for _ in range(3):
        told = commands(engine, TURN)
        assert torch.equal(engine.step(told).signals["c2w"], told["c2w"])


def test_paths_are_followed_and_other_engines_go_through(rendered_world: World) -> None:
    engine, free = walled(rendered_world), walled(rendered_world, walls=False)
    path = torch.cat([commands(free, FORWARD)["c2w"] for _ in range(1)], 1)
    path = torch.cat([path, path + (path[:, -1:] - engine.c2w[:, None])], 1)
    followed = engine.follow(path)
    assert torch.equal(followed.signals["c2w"], path)
    assert followed.signals.keys() == engine.spec.gives.keys()
    for _ in range(3):
        told = commands(free, FORWARD)
        assert torch.equal(free.step(told).signals["c2w"], told["c2w"])


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_forks_and_restored_states_know_the_same_walls(rendered_world: World, policy: str) -> None:
    engine = walled(rendered_world, policy=policy)
    engine.step(commands(engine, FORWARD))
    state = engine.clone_state([0])
    engine.fork([0], [1])
    engine.restore_state(state, [2])
    assert engine.history.walls is not None
    for _ in range(2):
        engine.step(commands(engine, FORWARD))
        evidence = engine.history.walls.evidence
        for row in (1, 2):
            assert torch.equal(engine.c2w[row], engine.c2w[0])
            assert torch.equal(evidence[row], evidence[0])


def test_states_of_worlds_with_and_without_walls_are_told_apart(rendered_world: World) -> None:
    engine, free = walled(rendered_world), walled(rendered_world, walls=False)
    with pytest.raises(ValueError, match=r"only one has walls; set memory\.walls alike"):
        free.restore_state(engine.clone_state([0]), [0])
    with pytest.raises(ValueError, match=r"only one has walls"):
        engine.restore_state(free.clone_state([0]), [0])
    state = engine.clone_state([0])
    state["walls.evidence"][0, 0, 0] = 100
    with pytest.raises(ValueError, match=r"walls\.evidence holds what no episode has"):
        engine.restore_state(state, [0])


def test_a_reset_forgets_walls(rendered_world: World) -> None:
    engine = walled(rendered_world)
    before = engine.history.walls.evidence.clone()  # type: ignore[union-attr]
    engine.step(commands(engine, TURN))
    engine.reset(seeds=[0, 1, 2], starts=[0, 1, 2], mask=torch.tensor([True, False, False]))
    after = engine.history.walls.evidence  # type: ignore[union-attr]
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_environments_have_walls_unless_told_otherwise(rendered_world: World) -> None:
    assert rendered_world.has_walls(rendered_world.config.memory)
    for memory, kept in (({}, True), ({"walls": False}, False), ({"render": False}, False)):
        envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, world=rendered_world, memory=memory)
        assert (envs.unwrapped.core.dynamics.history.walls is not None) == kept  # type: ignore[attr-defined]
        envs.close()
    with pytest.raises(ValueError, match=r"memory\.walls=true: walls are seen in the depth of rendered memory"):
        gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=rendered_world, memory={"walls": True, "render": False})


def test_info_says_what_was_commanded_and_what_happened(rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, world=rendered_world)
    envs.unwrapped.core.dynamics.history.views.renderer.disturb = lambda d, e: torch.full_like(d, WALL)  # type: ignore[attr-defined]
    envs.reset(seed=0)
    envs.unwrapped.core.dynamics.history.walls.clear(torch.arange(2))  # type: ignore[attr-defined]
    *_, info = envs.step(np.zeros(2, np.int64))  # looks again
    start = info["c2w"]
    *_, info = envs.step(np.zeros(2, np.int64))
    moved, told = (np.linalg.norm((info[k] - start)[:, :3, 3], axis=-1) for k in ("c2w", "c2w_commanded"))
    assert (moved < WALL).all()
    assert (told > moved + 0.1).all()
    envs.close()
