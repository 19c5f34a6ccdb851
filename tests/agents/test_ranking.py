"""Rankings: figures with known values, and comparisons that go on and cannot change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.world.world import World
from worldenv_agents.environments import EnvConfig
from worldenv_agents.evaluate import evaluate_named
from worldenv_agents.ledger import Ledger
from worldenv_agents.ranking import compare, figures, ranks, violation


def test_a_world_that_is_the_simulator_ranks_perfectly() -> None:
    real = np.array([0.1, 0.15, 0.5, 0.9])
    found = figures(real * 2 + 1, real, near=0.1)
    assert found["pearson"] == pytest.approx(1)
    assert found["pearson_near"] == pytest.approx(1)
    assert (found["spearman"], found["mmrv"], found["agreement"], found["agreement_near"]) == (1, 0, 1, 1)
    assert (found["slope"], found["offset"]) == pytest.approx((0.5, -0.5))
    assert figures(-real, real, near=0.1)["spearman"] == -1


def test_violations_cost_what_is_really_lost() -> None:
    # Policies 0 and 1 change places, which costs 0.2 of what is really earned; nobody else is wrong.
    assert violation(np.array([0.5, 0.4, 0.9]), np.array([0.3, 0.5, 0.9])) == pytest.approx((0.2 + 0.2 + 0) / 3)


def test_equal_values_share_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 0.0])).tolist() == [2.5, 1, 2.5, 0]


def test_intervals_hold_the_figure_and_nothing_is_made_up() -> None:
    rng = np.random.default_rng(0)
    real = rng.random((5, 40)) + np.arange(5)[:, None] / 4
    found = compare(real + 0.3 * rng.random((5, 40)), real)
    for name in ("pearson", "spearman", "gap", "bias"):
        low, high = found[name]["ci95"]
        assert low <= found[name]["mean"] <= high
    assert found["bias"]["mean"] == pytest.approx(0.15, abs=0.02)
    constant = np.ones((3, 4))
    assert "pearson" not in compare(constant, constant)


def test_a_ledger_goes_on_and_cannot_be_another(tmp_path: Path) -> None:
    said = {"claim": "it is so", "episodes": 3}
    brought = {"policy": "a", "success": 1.0, "length": 2, "rewards": [0.0, 1.0]}
    Ledger(tmp_path, said).add([{"seed": 4, **brought}])
    again = Ledger(tmp_path, said)
    assert again.missing(range(3, 6), policy="a") == [3, 5]
    assert again.missing(range(3, 6), policy="b") == [3, 4, 5]
    again.add([{"seed": 3, **brought}])
    assert [row["seed"] for row in Ledger(tmp_path, said).of(policy="a")] == [3, 4]
    with pytest.raises(ValueError, match=r"was begun with another claim; go on as registered\.json says"):
        Ledger(tmp_path, {**said, "claim": "it is otherwise"})


def test_random_steps_come_between(tiny_world_dir: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), max_episode_steps=4)
    never, always, straight = (
        evaluate_named(name, where, episodes=4) for name in ("epsilon:0:straight", "epsilon:1:straight", "straight")
    )
    np.testing.assert_array_equal(never.rewards, straight.rewards)
    assert always.returns.mean() < straight.returns.mean()
    np.testing.assert_allclose(straight.rewards.sum(1), straight.returns)
    with pytest.raises(ValueError, match="names no policy"):
        evaluate_named("epsilon:1", where, episodes=1)


def test_an_id_on_ground_truth_alone_is_not_ranked_by() -> None:
    with pytest.raises(ValueError, match="pass env='worldenv/HandPlace-v0'"):
        EnvConfig(env="worldenv/HandPlaceSim-v0").check_both()


def test_what_was_begun_with_other_weights_does_not_go_on(tiny_world: World, tmp_path: Path) -> None:
    """A world that was trained on since has the same name."""
    tiny_world.save_pretrained(tmp_path / "world")
    where = EnvConfig(world=str(tmp_path / "world"))
    Ledger(tmp_path / "out", where.registered())
    Ledger(tmp_path / "out", where.registered())
    trained = World.load(tmp_path / "world")
    with torch.no_grad():
        trained.dit.proj_out.bias += 1
    trained.save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match="was begun with another weights"):
        Ledger(tmp_path / "out", where.registered())
    assert EnvConfig(env="worldenv/HandPlaceSim-v0").registered()["weights"] == "", "no world is stepped"
