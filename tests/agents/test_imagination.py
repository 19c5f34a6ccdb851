"""The actor-critic of short imagined episodes learns a goal, goes on to the last bit, and remembers what it is to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldenv.base.log import JsonlLog
from worldenv.geometry.pose import look
from worldenv_agents.acting import Actor
from worldenv_agents.environments import EnvConfig, make_envs
from worldenv_agents.evaluate import evaluate, evaluate_named
from worldenv_agents.gain import GainConfig, gain, learner_of
from worldenv_agents.imagination import ImaginationConfig, Learner, train
from worldenv_agents.policy import TrainedPolicy, build_network, read_policy
from worldenv_agents.ppo import PPOConfig
from worldenv_agents.random_agent import RandomPolicy
from worldenv_agents.recurrent import Recurrent
from worldenv_agents.rollouts import imagine, lambda_returns

GOAL = look(torch.tensor([[2.0, 0.0, 2.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def within(world: Path, **changes: Any) -> ImaginationConfig:
    place = EnvConfig(env="worldenv/World-v0", world=str(world), obs_mode="latent", horizon=6)
    return ImaginationConfig(environment=place, **{"num_envs": 2, "rollout": 4, "batches": 2, "epochs": 2, **changes})


def test_it_beats_random_on_a_fixed_goal(make_blank: Callable[..., Any]) -> None:
    envs = make_blank(8, goals=GOAL, action_mode="camera")
    policy = train(ImaginationConfig(num_envs=8, rollout=12, steps=1_920), envs=envs)
    policy.deterministic = False
    random = RandomPolicy(envs.single_action_space, seed=0)
    learnt, floor = (evaluate(who, envs, episodes=32, first_seed=100) for who in (policy, random))
    assert learnt.returns.mean() > floor.returns.mean() + 1.0


def test_it_sees_in_latents_when_to_press(bright: Path) -> None:
    """As PPO learns in the environment itself (``test_gain``); the world of it has learned nothing."""
    config = within(bright, num_envs=4, rollout=8, steps=960, epochs=4, gamma=0.5)
    envs = make_envs(replace(config.environment, horizon=None, dynamics="sim"), 4)
    policy, random = train(config, envs=envs), RandomPolicy(envs.single_action_space, seed=0)
    learnt, floor = (evaluate(who, envs, episodes=16, first_seed=100) for who in (policy, random))
    assert learnt.returns.mean() > floor.returns.mean() + 3


def test_returns_are_the_mean_of_those_of_every_length() -> None:
    draw = torch.Generator().manual_seed(0)
    steps, count, gamma, trace = 6, 40, 0.9, 0.8
    reward, ahead = torch.randn(2, steps, count, generator=draw, dtype=torch.float64)
    terminated, cut = torch.rand(2, steps, count, generator=draw) < 0.2
    ended = terminated | cut
    found = lambda_returns(reward, ahead, terminated, ended, gamma=gamma, trace=trace)
    for row in range(count):
        for begin in range(steps):
            last = next((t for t in range(begin, steps) if ended[t, row]), steps - 1)
            lengths = []
            for end in range(begin, last + 1):
                earned = sum(gamma ** (t - begin) * reward[t, row] for t in range(begin, end + 1))
                rest = 0 if terminated[end, row] else gamma ** (end + 1 - begin) * ahead[end, row]
                lengths.append(earned + rest)
            weights = [(1 - trace) * trace**n for n in range(len(lengths) - 1)] + [trace ** (len(lengths) - 1)]
            wanted = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
            torch.testing.assert_close(found[begin, row], torch.as_tensor(wanted))


@pytest.mark.parametrize("recall", [0, 5])
def test_what_was_interrupted_goes_on_to_the_last_bit(recall: int, bright: Path, tmp_path: Path) -> None:
    config = within(bright, steps=24, recall=recall)
    whole = train(config, out=tmp_path / "whole")
    train(replace(config, steps=8), out=tmp_path / "parts")
    with pytest.raises(ValueError, match="holds a run already; pass --resume"):
        train(config, out=tmp_path / "parts")
    with pytest.raises(ValueError, match="the run had another 'trace'"):
        train(replace(config, trace=0.5), out=tmp_path / "parts", resume=True)
    parts = train(config, out=tmp_path / "parts", resume=True)
    for one, other in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        assert torch.equal(one, other)
    for name in ("policy.safetensors", "policy.json", "checkpoint.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert {path.suffix for path in (tmp_path / "whole").iterdir()} == {".safetensors", ".json", ".jsonl"}
    assert [line["step"] for line in JsonlLog.read(tmp_path / "parts" / "log.jsonl")] == [8, 16, 24]
    other = train(replace(config, seed=1))
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.network.parameters(), other.network.parameters(), strict=True)
    )


def test_ends_inside_what_is_imagined_show_their_last_observation(bright: Path) -> None:
    """And what is remembered is what acting from the start of the same episode would remember."""
    config = within(bright, num_envs=3, rollout=9, recall=4, batches=1)
    learner = Learner(config, make_envs(config.environment, 3))
    lived = imagine(learner.envs, learner.network, seeds=[1, 2, 3], steps=9)
    assert lived.ended[5].all()
    assert not lived.ended[[0, 1, 2, 3, 4, 6, 7, 8]].any()
    torch.testing.assert_close(lived.seen[1:6], lived.after[:5])
    torch.testing.assert_close(lived.seen[7:], lived.after[6:8])
    assert not torch.equal(lived.seen[6], lived.after[5]), "where the next episodes begin"
    with torch.no_grad():
        network = learner.network
        features = network.see(lived.seen.flatten(0, 1))
        unrolled = network.heads(features, network.unroll(features, lived.ended))[0].log_prob(lived.actions.flatten())
    torch.testing.assert_close(unrolled, lived.log_prob.flatten())
    policy = TrainedPolicy(network, config)
    for t in (6, 7, 8):
        policy.act(lived.seen[t].numpy(), {})
    torch.testing.assert_close(policy._memory, network.unroll(features, lived.ended).unflatten(0, (9, 3))[8])
    policy.reset(2)
    policy.act(lived.seen[0][:2].numpy(), {})
    assert len(policy._memory) == 2


def test_a_memory_recalls_what_is_out_of_sight() -> None:
    """What was seen first decides what pays last; without a memory it cannot be known."""
    space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    network = build_network(ImaginationConfig(recall=8), space, spaces.Discrete(2))
    assert isinstance(network, Recurrent)
    first, ended = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(3, 2, dtype=torch.bool)
    seen = torch.cat([first, torch.zeros(4, 2)])
    known = network.unroll(network.see(seen), ended)[-2:]
    assert not torch.equal(*known)
    ended[0] = True
    assert torch.equal(*network.unroll(network.see(seen), ended)[-2:]), "of an episode that is over nothing is known"


def test_policies_are_named_by_what_trained_them(bright: Path, tmp_path: Path) -> None:
    config = within(bright, steps=8, recall=3)
    train(config, out=tmp_path)
    assert read_policy(tmp_path)[0] == config
    scores = evaluate_named(f"imagination:{tmp_path}", replace(config.environment, obs_mode=None), episodes=2)
    assert scores.lengths.tolist() == [6, 6]
    with pytest.raises(ValueError, match="was trained by imagination; write imagination:"):
        evaluate_named(f"ppo:{tmp_path}", config.environment, episodes=2)
    actor = Actor(str(tmp_path))
    for _ in range(2):
        actor.watch(np.zeros((1, 16, 16, 3), np.uint8), begins=True)
        assert actor.policy._memory is None
        actor(np.zeros((16, 16, 3), np.uint8), spaces.Discrete(2), np.random.default_rng(0))
        assert actor.policy._memory is not None
    values = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**values, "policy": "dqn"}))
    with pytest.raises(ValueError, match="a policy of 'dqn', known are ppo, imagination"):
        read_policy(tmp_path)


def test_one_command_sets_it_beside_ppo(bright: Path, tmp_path: Path) -> None:
    place = EnvConfig(env="worldenv/World-v0", world=str(bright), obs_mode="latent", horizon=4)
    learner = PPOConfig(environment=place, num_envs=4, steps=60, rollout=8, minibatch=16, gamma=0.5, features=8)
    config = GainConfig(learner=learner, seeds=1, legs=1, leg_episodes=4, episodes=4, arms=("world", "imagination"))
    taken = learner_of(config, "imagination", frames=1)
    assert (taken.steps, taken.gamma, taken.features, taken.environment) == (60, 0.5, 8, place)
    report = gain(config, tmp_path)
    assert report["arms"]["imagination"]["steps"] == report["arms"]["world"]["steps"] == 60
    assert "actor-critic of short imagined episodes" in (tmp_path / "report.md").read_text()
    assert read_policy(tmp_path / "imagination-0")[0] == taken


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trace": 1.5}, "trace=1.5 must lie between 0 and 1"),
        ({"slow": -0.1}, "slow=-0.1 must lie between 0 and 1"),
        ({"batches": 3}, "batches=3 of 2 envs"),
        ({"rollout": 0}, "rollout=0 must be 1 or more"),
        ({"recall": -1}, "recall=-1 must be 0 or more"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], words: str, bright: Path) -> None:
    with pytest.raises(ValueError, match=words):
        within(bright, **changes)


def test_simulators_and_other_autoresets_are_refused(bright: Path) -> None:
    config = within(bright)
    with pytest.raises(ValueError, match="in a simulator train ppo"):
        replace(config, environment=replace(config.environment, dynamics="sim"))
    with pytest.raises(ValueError, match="autoreset_mode='SameStep'"):
        train(config, envs=make_envs(config.environment, 2, autoreset_mode="NextStep"))
