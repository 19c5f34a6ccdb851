"""Cloned policies are corrected: nothing said is the clone itself, what is said is added, and PPO learns to say it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.base.checkpoint import save_tensors
from worldenv.base.config import dump_toml, load_toml, to_dict
from worldenv.bodies.hand_model import CLOSED, HAND, NUM_WRIST, OPEN
from worldenv_agents.action_chunks import ActionChunks, ClonedPolicy, CloningConfig
from worldenv_agents.correction import CLOSE, MOVE, TURN, corrected
from worldenv_agents.environments import EnvConfig, make_envs, shown_to_clones
from worldenv_agents.evaluate import evaluate_named
from worldenv_agents.loop import LoopTable, run_loop
from worldenv_agents.ppo import PPOConfig, train

pytestmark = pytest.mark.manip
SIM = "worldenv/HandLiftSim-v0"


@pytest.fixture(scope="module")
def clone_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of nobody: random weights."""
    folder, config = tmp_path_factory.mktemp("clone"), CloningConfig(ahead=4, width=16, num_layers=1)
    torch.manual_seed(0)
    module = ActionChunks(config)
    module.scale.fill_(0.02)
    save_tensors(folder / "policy.safetensors", module.state_dict(), header={"format": 1, "config": to_dict(config)})
    return folder


def test_what_is_said_is_reached_at_the_end_of_a_step_within_the_joints_ranges() -> None:
    low, high = HAND.limits.double()
    planned = ((low + high) / 2).expand(2, 4, -1)
    said = torch.tensor([[0.5, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]], dtype=torch.double)
    moved = corrected(planned, said) - planned
    torch.testing.assert_close(moved[0, :, 0], MOVE / 2 * torch.tensor([0.25, 0.5, 0.75, 1]).double())
    torch.testing.assert_close(moved[0, -1, 3], torch.tensor(TURN).double())
    assert (moved[0, :, NUM_WRIST:] == 0).all()
    assert (moved[1, :, :NUM_WRIST] == 0).all()
    torch.testing.assert_close(moved[1, -1, NUM_WRIST:], CLOSE * (CLOSED - OPEN).double())
    assert (corrected(high.expand(2, 4, -1), said.abs()) <= high).all()
    torch.testing.assert_close(corrected(planned, torch.zeros(2, 7).double()), planned, rtol=0, atol=0)


def test_nothing_said_is_the_clone_itself_and_what_is_said_moves_the_hand(clone_dir: Path) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    config = EnvConfig(env=SIM, correct=str(clone_dir))
    with closing(make_envs(config, 2)) as envs, closing(make_envs(shown_to_clones(config), 2)) as bare:
        policy = ClonedPolicy.load(clone_dir, num_latents=1)
        shown, _ = envs.reset(seed=[3, 4])
        seen, _ = bare.reset(seed=[3, 4])
        for _ in range(3):
            shown, *_ = envs.step(np.zeros((2, 7), np.float32))
            seen, *_ = bare.step(policy.act(seen, {}))
            assert all((shown[key] == seen[key]).all() for key in seen)
        wrong = np.zeros((2, 7), np.float32)
        for value in (1.5, np.nan):
            wrong[1, 2] = value
            with pytest.raises(ValueError, match=rf"a correction is {value}, expected -1..1"):
                envs.step(wrong)
        with pytest.raises(ValueError, match=r"corrections have shape \(2, 6\), expected \(2, 7\)"):
            envs.step(wrong[:, :6])
        again, *_ = envs.step(np.zeros((2, 7), np.float32))  # nothing happened
        seen, *_ = bare.step(policy.act(seen, {}))
        assert (again["joints"] == seen["joints"]).all()
        up = np.eye(7, dtype=np.float32)[[2, 2]]
        shown, *_ = envs.step(up)
        seen, *_ = bare.step(policy.act(seen, {}))
        np.testing.assert_allclose(shown["joints"][:, 2] - seen["joints"][:, 2], MOVE, atol=1e-6)


def test_ppo_corrects_a_clone_and_is_evaluated_with_it(clone_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    environment = EnvConfig(env=SIM, correct=str(clone_dir), max_episode_steps=2)
    config = PPOConfig(environment=environment, num_envs=2, steps=8, rollout=4, minibatch=4, epochs=1, spread=0.25)
    policy = train(config, out=tmp_path)
    assert policy.action_text == "Box(-1.0, 1.0, (7,), float32)"
    torch.testing.assert_close(policy.network.log_std.exp(), torch.full((7,), 0.25), atol=0.01, rtol=0)
    where = replace(environment, correct=None)  # the policy says which clone it corrects
    assert evaluate_named(f"ppo:{tmp_path}", where, episodes=2, num_envs=2).lengths.tolist() == [2, 2]


def test_in_the_dark_the_clone_still_sees(clone_dir: Path) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    config = EnvConfig(env=SIM, correct=str(clone_dir))
    with closing(make_envs(config, 1)) as envs, closing(make_envs(replace(config, blank=True), 1)) as dark:
        shown, _ = envs.reset(seed=[3])
        nothing, _ = dark.reset(seed=[3])
        assert shown["image"].any()
        assert not any(part.any() for part in nothing.values())
        told = [one.step(np.zeros((1, 7), np.float32))[4]["joints"] for one in (envs, dark)]
        assert (told[0] == told[1]).all()


def test_what_cannot_be_corrected_is_refused(clone_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown action_mode 'joints'"):
        make_envs(EnvConfig(world="maze", correct=str(clone_dir)), 1)
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    with pytest.raises(ValueError, match="no such file"):
        make_envs(EnvConfig(env=SIM, correct=str(tmp_path)), 1)
    with pytest.raises(ValueError, match="pictures=False: a clone that is corrected sees and acts as it learned"):
        make_envs(EnvConfig(env=SIM, correct=str(clone_dir), pictures=False), 1)


def test_a_table_asks_whether_a_world_improves_a_clone(clone_dir: Path, hand_world_dir: Path, tmp_path: Path) -> None:
    """The table of ``configs/loops`` at its smallest: the clone itself beside what PPO made of it inside."""
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    table = load_toml(LoopTable, Path(__file__).resolve().parents[2] / "configs" / "loops" / "hand_correction.toml")
    small = replace(
        table,
        environment={
            **table.environment,
            "world": str(hand_world_dir),
            "correct": str(clone_dir),
            "max_episode_steps": 1,
            "starts": [0, 4],
        },
        test_starts=(4, 6),
        ppo={**table.ppo, "steps": 4, "num_envs": 2, "rollout": 2, "minibatch": 4, "epochs": 1},
        baselines=(f"cloned:{clone_dir}", "expert"),
        seeds=(0,),
        legs=1,
        leg_episodes=1,
        episodes=2,
        videos=1,
    )
    (tmp_path / "table.toml").write_text(dump_toml(to_dict(small)))
    report = run_loop(tmp_path / "table.toml", tmp_path / "loop")
    assert list(report["arms"]) == ["random", f"cloned:{clone_dir}", "expert", "world", "blank", "simulator"]
    assert report["arms"]["world"]["length"]["mean"] == 1
    assert {path.name for path in (tmp_path / "loop" / "world-0").glob("*.mp4")} == {"real.mp4", "imagined.mp4"}
