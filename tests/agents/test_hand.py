"""Experts do their tasks, noise spoils them, and they say what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldenv_agents.environments import EnvConfig
from worldenv_agents.evaluate import evaluate_named

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")

from worldenv.sims.mujoco.experts import Expert

pytestmark = pytest.mark.manip


@pytest.mark.parametrize(("task", "options"), [("Place", {}), ("Lift", {"action_mode": "joints"}), ("Push", {})])
def test_experts_do_their_tasks(task: str, options: dict[str, str]) -> None:
    config = EnvConfig(env=f"worldenv/Hand{task}Sim-v0", **options)  # type: ignore[arg-type]
    scores = evaluate_named("expert", config, episodes=3, num_envs=3, first_seed=100)
    assert scores.success.tolist() == [1, 1, 1]
    assert (scores.returns > 1).all()


def test_noise_spoils_them() -> None:
    config = EnvConfig(env="worldenv/HandLiftSim-v0", max_episode_steps=12)
    assert evaluate_named("noisy:2", config, episodes=3, num_envs=3).success.mean() < 0.5


def test_plans_follow_from_seed_and_level() -> None:
    thing, target, joints = torch.tensor([[0.1, 0.0, 0.03]]), torch.tensor([[0.0, 0.1, 0.0]]), torch.zeros(1, 26)
    exact = Expert("place").plan(thing, target, joints, 24)
    assert exact.shape == (1, 24, 7)
    noisy = [Expert("place", noise=0.5, seed=3).plan(thing, target, joints, 24) for _ in range(2)]
    assert torch.equal(*noisy)
    assert not torch.equal(noisy[0], exact)
    np.testing.assert_allclose((noisy[0] - exact).std(), 0.5 * 0.4, atol=0.2)


@pytest.mark.parametrize(
    ("name", "env", "said"),
    [
        ("expert", "worldenv/Revisit-v0", "no expert for task Revisit"),
        ("noisy", "worldenv/HandPlaceSim-v0", "write noisy:0.5"),
        ("noisy:loud", "worldenv/HandPlaceSim-v0", "is no number"),
        ("noisy:-1", "worldenv/HandPlaceSim-v0", "must lie within"),
    ],
)
def test_what_they_cannot_do_is_said(name: str, env: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        evaluate_named(name, EnvConfig(env=env), episodes=1, num_envs=1)
