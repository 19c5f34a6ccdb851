"""Evaluation counts episodes right, whatever the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worldenv.geometry.pose import look
from worldenv_agents.environments import EnvConfig, make_envs
from worldenv_agents.evaluate import evaluate, evaluate_named
from worldenv_agents.registry import find_policy
from worldenv_agents.scripted import FollowKeys, OutAndBack, SeekGoal


def goals_ahead(*metres: float) -> torch.Tensor:
    position = torch.tensor([[0, 0, m] for m in metres], dtype=torch.float64)
    return look(position, torch.zeros(len(metres), dtype=torch.float64))


def test_scores_do_not_depend_on_the_batch_size(make_blank: Callable[..., Any]) -> None:
    policy, goals = SeekGoal(turn=math.pi / 4, move=1.0), goals_ahead(1, 2, 3, 4, 5)
    results = [evaluate(policy, make_blank(size, goals=goals), episodes=13, first_seed=40) for size in (1, 4, 13)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].lengths, other.lengths)
        np.testing.assert_allclose(results[0].returns, other.returns, atol=1e-12)
    assert len(set(results[0].lengths)) > 1


def test_a_finished_row_earns_no_more(make_blank: Callable[..., Any]) -> None:
    envs = make_blank(4, goals=goals_ahead(1, 6), limit=10)
    scores = evaluate(SeekGoal(turn=math.pi / 4, move=1.0), envs, episodes=16)
    # Potential is metres / 4, and arriving is worth 1: a straight walk of m metres earns m / 4 + 1 in m steps.
    np.testing.assert_allclose(scores.returns, scores.lengths / 4 + 1)
    assert set(scores.lengths) == {1, 6}


def test_a_time_limit_is_no_success(make_blank: Callable[..., Any]) -> None:
    scores = evaluate(OutAndBack(), make_blank(3, goals=goals_ahead(9), limit=5), episodes=5)
    assert scores.lengths.tolist() == [5] * 5
    assert not scores.success.any()
    assert scores.summary()["success"] == {"mean": 0.0, "ci95": [0.0, 0.0], "n": 5}


def test_evaluation_repeats_itself(tiny_world_dir: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), max_episode_steps=3)
    first, second = (evaluate_named("random", where, episodes=4) for _ in range(2))
    np.testing.assert_array_equal(first.returns, second.returns)


def test_policies_adapt_the_environment_they_run_on(tiny_world_dir: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), max_episode_steps=2, action_mode="camera")
    for name in ("random", "seek_goal", "follow:w-4, right-4"):
        assert evaluate_named(name, where, episodes=2).lengths.max() <= 2


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match="choose one of random"):
        find_policy("clever")
    with pytest.raises(ValueError, match="ppo:DIR"):
        find_policy("ppo")
    with pytest.raises(ValueError, match="write random"):
        find_policy("random:3")
    with pytest.raises(ValueError, match="worldenv/Navigate-v0"):
        make_envs(EnvConfig(env="worldenv/Nowhere-v0"), 1)
    with pytest.raises(ValueError, match="pose segment"):
        FollowKeys("w", num_latents=4)
    with pytest.raises(ValueError, match="may never end"):
        evaluate_named("random", EnvConfig(max_episode_steps=-1), episodes=1)


def test_evaluation_needs_same_step_autoreset(make_blank: Callable[..., Any]) -> None:
    envs = make_blank(2, goals=goals_ahead(1), autoreset_mode="NextStep")
    with pytest.raises(ValueError, match="SameStep"):
        evaluate(OutAndBack(), envs, episodes=2)
