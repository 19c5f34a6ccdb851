"""How far a world is to be trusted: told without changing anything, forked, paid for, and measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldenv.eval.report.statistics import draw_weights
from worldenv.eval.suites.doubt import Doubts
from worldenv.models.heads import EventConfig, EventHead
from worldenv.world.config import DoubtConfig
from worldenv.world.world import World


def make(world: World | Path, **options: Any) -> Any:
    name = world if isinstance(world, World) else str(world)
    return gym.make_vec("worldenv/World-v0", num_envs=3, world=name, **options)


def test_it_is_told_of_every_step_and_changes_nothing(bright: Path) -> None:
    plain, told = make(bright), make(bright, uncertainty=True)
    plain.reset(seed=0)
    _, info = told.reset(seed=0)
    assert info["uncertainty"].tolist() == [0, 0, 0]  # what it begins with was recorded
    for _ in range(3):
        wanted, found = (envs.step(np.array([0, 1, 1])) for envs in (plain, told))
        np.testing.assert_array_equal(wanted[0], found[0])
        np.testing.assert_array_equal(wanted[1], found[1])
        assert (found[4]["uncertainty"] > 0).all()
        assert "uncertainty" not in wanted[4]
    signals = told.unwrapped.core.dynamics.doubt_signals()
    assert set(signals) == {"latents", "reward", "terminated"}
    told.unwrapped.fork([0], [2])
    engine = told.unwrapped.core.dynamics
    for name, signal in engine.doubt_signals().items():
        assert signal[0] == signal[2] != signal[1], f"{name} at once"
    *_, info = told.step(np.array([1, 0, 1]))
    assert info["uncertainty"][0] == info["uncertainty"][2] != info["uncertainty"][1]
    engine.restore_state(engine.clone_state([0]), [1])
    for name, signal in engine.doubt_signals().items():
        assert signal[1] == 0 < signal[0], f"{name} of what was made elsewhere"


def test_pessimism_costs_and_ends_what_is_too_uncertain(bright: Path) -> None:
    world = World.from_pretrained(bright)
    world.config = replace(world.config, doubt=DoubtConfig(latents=0.5, reward=0.1))
    plain, cautious = make(world, uncertainty=True), make(world, pessimism=0.5)
    for envs in (plain, cautious):
        envs.reset(seed=0)
    _, reward, ended, _, info = plain.step(np.array([0, 1, 1]))
    _, less, still, _, _ = cautious.step(np.array([0, 1, 1]))
    np.testing.assert_allclose(less, reward - 0.5 * info["uncertainty"], atol=1e-6)
    assert not (ended | still).any()
    limit = float(np.median(info["uncertainty"]))
    world.config = replace(world.config, doubt=replace(world.config.doubt, limit=limit))
    strict = make(world, pessimism=0.0)
    strict.reset(seed=0)
    *_, ended, _, _ = strict.step(np.array([0, 1, 1]))
    np.testing.assert_array_equal(ended, info["uncertainty"] > limit)
    for said, options in (
        ("pessimism=-1.0 must be from 0", {"pessimism": -1.0}),
        ("pessimism=1.0 is for generated worlds", {"pessimism": 1.0, "dynamics": "sim"}),
        ("uncertainty=True is for generated worlds", {"uncertainty": True, "dynamics": "sim"}),
    ):
        with pytest.raises(ValueError, match=said):
            make(world, **options)


def test_members_of_a_head_are_one_mean_and_disagree(bright: Path) -> None:
    torch.manual_seed(0)
    head = EventHead(EventConfig(widths=(4,), hidden=8, num_codes=1, num_frames=1, num_members=3))
    pixels, codes = torch.rand(2, 4, 2, 3, 16, 16), torch.rand(2, 4, 1)
    said = head.hear(pixels, codes)
    assert said.shape == (3, 2, 4, 41)
    torch.testing.assert_close(head(pixels, codes), said.mean(0))
    features, state = torch.rand(5, 8), torch.rand(5, 8)
    assert (head.doubt(features, state) > 0).all()
    head.others = head.others[:0]
    assert not head.doubt(features, state).any()  # one agrees with itself


def test_what_of_a_picture_is_memory_is_told_where_it_is_rendered(rendered_world: World) -> None:
    envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, world=rendered_world)
    _, info = envs.reset(seed=0)
    assert info["is_known"].tolist() == [1, 1]
    *_, info = envs.step(np.array([2, 0]))
    assert ((info["is_known"] >= 0) & (info["is_known"] < 1)).all()
    engine, turned, walked = envs.unwrapped.core.dynamics, *info["is_known"]
    assert turned != walked
    engine.fork([0], [1])
    assert engine.known().tolist() == [turned, turned]
    engine.restore_state(engine.clone_state([0]), [1])
    assert engine.known().tolist() == [turned, 1], "of what was made elsewhere nothing is told"


def test_doubts_that_follow_the_error_correlate_with_it_and_age_alone_does_not() -> None:
    rng, age = np.random.default_rng(0), np.tile(np.arange(8), 40)
    case, error = np.repeat(np.arange(40), 8), rng.random(320) + age
    weights = draw_weights([np.arange(40)], num_draws=200)

    def figures(signal: Any) -> Any:
        doubts = Doubts(case, age, {"latents": signal, "reward": np.zeros(320)}, error, np.zeros(320))
        config = doubts.measured()
        assert config.reward == 0  # never said anything
        assert (doubts.uncertainty(config) > config.limit).mean() == pytest.approx(0.05)
        return doubts.figures(config, weights)

    knows, grows = figures(2 * error), figures(rng.random(320) + age)
    assert knows["uncertainty_pictures"].value == pytest.approx(1)
    assert knows["uncertainty_pictures_same_age"].value == pytest.approx(1)
    assert grows["uncertainty_pictures"].value > 0.9
    low, high = grows["uncertainty_pictures_same_age"].summary()["ci95"]
    assert low < 0 < high
    assert np.isnan(knows["uncertainty_reward"].value)
