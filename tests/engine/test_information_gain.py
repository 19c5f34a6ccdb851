"""What the newest viewpoint adds to those that are remembered, as WorldScape's gate would have it."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch

import worldenv  # noqa: F401  (registers the ids)
from worldenv.bodies.camera import press
from worldenv.engine.engine import Engine
from worldenv.memory.config import with_policy
from worldenv.memory.pool import MAX_GAIN, information_gain
from worldenv.world.world import World

AHEAD, TURN, STILL = (1, 0), (0, 1), (0, 0)


def walked(world: World, policy: str, *steps: tuple[tuple[int, int], tuple[int, int]]) -> Engine:
    """Step two rows, each by keys of its own."""
    engine = Engine(world, 2, memory=with_policy(world.config.memory, policy))
    engine.reset(seeds=[0, 1], starts=[0, 1])
    for keys in steps:
        codes = torch.tensor(keys)[:, None].expand(-1, engine.spec.chunk_latents, -1)
        engine.step(press(codes, engine.c2w, engine.spec.steps))
    return engine


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_standing_still_tells_nothing_and_turning_away_much(tiny_world: World, policy: str) -> None:
    engine = walked(tiny_world, policy, (STILL, TURN), (STILL, TURN), (STILL, TURN))
    still, turned = engine.history.information_gain().tolist()
    assert 0 < still < 0.3 < turned < MAX_GAIN
    engine.fork([1], [0])
    codes = torch.tensor([TURN, TURN])[:, None].expand(-1, engine.spec.chunk_latents, -1)
    engine.step(press(codes, engine.c2w, engine.spec.steps))
    fork, trunk = engine.explain()["information_gain"].tolist()
    assert fork == trunk


def test_it_is_what_the_gate_will_ask(tiny_world: World) -> None:
    engine = walked(tiny_world, "worldscape", *[(AHEAD, TURN)] * 4)
    store, config = engine.history.store, engine.history.config
    assert store is not None
    for row, gain in enumerate(engine.history.information_gain().tolist()):
        count = int(store.count[row])
        kept = store.c2w[row : row + 1, : count - 1]
        every = torch.ones(1, count - 1, dtype=torch.bool)
        scales = {"scale": config.scale, "scale_deg": config.scale_deg}
        asked = information_gain(store.c2w[row : row + 1, count - 1], kept, every, **scales)
        assert gain == pytest.approx(float(asked))


def test_all_is_new_at_first(tiny_world: World) -> None:
    assert walked(tiny_world, "worldplay").history.information_gain().tolist() == pytest.approx([MAX_GAIN] * 2)


def test_explore_tells_it_and_others_do_where_asked(rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Explore-v0", num_envs=2, world=rendered_world)
    envs.reset(seed=0)
    *_, info = envs.step(envs.action_space.sample())
    assert info["memory_information_gain"].shape == (2,)
    assert {name for name in info if name.startswith("memory_")} == {"memory_information_gain"}
    envs.close()
    for report in (False, True):
        envs = gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=rendered_world, report_memory=report)
        envs.reset(seed=0)
        assert ("memory_information_gain" in envs.step(envs.action_space.sample())[-1]) == report
        envs.close()
