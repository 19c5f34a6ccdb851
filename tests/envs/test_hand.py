"""The hand's ids: Gymnasium's checker, rows as alone, what is refused, clones, experts and noise."""

from __future__ import annotations

import json
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401
from worldenv.dynamics.protocol import Chunk
from worldenv.envs.described import describe_space, read_space
from worldenv.tasks.base import Start
from worldenv.tasks.registry import make_task

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
pytestmark = pytest.mark.manip
PLACE = "worldenv/HandPlaceSim-v0"


def made(num_envs: int = 2, env_id: str = PLACE, **options: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, **options)


@pytest.mark.parametrize("env_id", [PLACE, "worldenv/HandLiftSim-v0", "worldenv/HandPushSim-v0"])
def test_gymnasiums_checker_passes(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (7,), np.float32)
    assert set(env.observation_space) == {"image", "palm", "proprio", "goal"}  # type: ignore[call-overload]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    assert [str(warning.message) for warning in said] == []
    assert json.loads(env.spec.to_json())["id"] == env_id  # type: ignore[union-attr]


def test_rows_are_single_envs_to_the_last_bit() -> None:
    envs, alone = made(3), gym.make(PLACE)
    envs.reset(seed=7)
    obs, _ = alone.reset(seed=8)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 3, 7)).astype(np.float32)
    for action in actions:
        many = envs.step(action)
        obs, reward, *_ = alone.step(action[1])
        assert reward == many[1][1]
        assert all(np.array_equal(obs[key], many[0][key][1]) for key in obs)


@pytest.mark.parametrize(
    ("options", "action", "said"),
    [
        ({}, np.full((2, 7), 1.5), r"action 1.5 of 'x' is outside \[-1, 1\]"),
        ({"action_mode": "joints"}, np.full((2, 26), 0.38), r"action 0.38 of 'wrist_x' is outside \[-0.35, 0.35\]"),
        ({}, np.full((2, 7), np.nan), "NaN"),
        ({}, np.zeros((2, 26)), r"expected \(2, 7\)"),
        ({"chunk_latents": 2}, np.zeros((2, 7)), r"expected \(2, 2, 7\)"),
        ({"action_mode": "joints"}, np.zeros((2, 7)), r"expected \(2, 26\): one row per env of Box"),
    ],
)
def test_bad_actions_are_refused_and_move_nothing(options: dict[str, Any], action: Any, said: str) -> None:
    envs = made(obs_keys=["proprio"], **options)
    envs.reset(seed=0)
    before = envs.unwrapped.clone_state([0, 1])
    with pytest.raises(ValueError, match=said) as error:
        envs.step(action)
    assert "\n" not in str(error.value)
    after = envs.unwrapped.clone_state([0, 1])
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ([0.5, 0.0], r"goal \(0.5, 0\) of env 0 is outside the table"),
        ([[0.0, 0.0]], "one per env"),
        ([0.0, 0.0, 0.0], "pass x and y"),
        ([np.nan, 0.0], "NaN"),
        ("tray", "must be numbers"),
    ],
)
def test_goals_are_checked_before_anything_changes(goal: Any, said: str) -> None:
    envs, plain = made(obs_keys=["goal"]), made(obs_keys=["goal"])
    for env in (envs, plain):
        env.reset(seed=0)
    with pytest.raises(ValueError, match=said):
        envs.reset(seed=5, options={"goal": goal})
    np.testing.assert_array_equal(envs.reset()[0]["goal"], plain.reset()[0]["goal"])
    obs, info = envs.reset(seed=0, options={"goal": [0.1, 0.05]})
    np.testing.assert_allclose(obs["goal"][:, :2], [[0.1, 0.05]] * 2, atol=1e-6)
    np.testing.assert_allclose(info["target"][:, :2], [[0.1, 0.05]] * 2, atol=1e-6)


def test_keywords_of_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown world 'other'"):
        made(world="other")
    for wrong in ({"dtype": "int3"}, {"backend": "xyz"}, {"device": "tpu9"}):
        with pytest.raises(ValueError, match=next(iter(wrong.values()))):
            made(**wrong)
    with pytest.raises(ValueError, match="world 'maze' shows no hand"):
        made(world="maze")
    with pytest.raises(ValueError, match="reads object_read, keypoints"):
        made(dynamics="world", world="maze")


@pytest.mark.parametrize("chunk_latents", [1, 2])
def test_sampled_keypoints_are_within_reach(chunk_latents: int) -> None:
    envs = made(2, action_mode="keypoints", chunk_latents=chunk_latents, obs_keys=["proprio"], pictures=False)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    envs.single_action_space.seed(0)
    action = envs.action_space.sample()
    assert envs.action_space.contains(action)
    assert (action[0] != action[1]).any()
    _, _, _, _, info = envs.step(action)
    wrist = action.reshape(2, chunk_latents, 24)[:, -1, :3]
    np.testing.assert_allclose(info["joints"][:, :3], wrist, atol=1e-5)
    told = read_space(json.loads(json.dumps(describe_space(envs.single_action_space))))  # as it goes over a wire
    told.seed(0)
    for space in (envs.single_action_space, told):
        action = space.sample()
        assert envs.single_action_space.contains(action)
        envs.step(np.stack([action, action]))


def test_clones_go_on_alike(tmp_path: Any) -> None:
    envs = made(2)
    envs.reset(seed=0)
    action = np.random.default_rng(1).uniform(-1, 1, (2, 7))
    envs.step(action)
    envs.unwrapped.save_state(tmp_path / "state.safetensors", [0])
    first = envs.step(action)
    envs.unwrapped.load_state(tmp_path / "state.safetensors", [1])
    again = envs.step(action[[0, 0]])
    assert all(np.array_equal(again[0][key][1], first[0][key][0]) for key in first[0])
    assert again[1][1] == first[1][0]


def test_one_trunk_has_several_forks() -> None:
    envs = made(3)
    envs.reset(seed=0)
    envs.step(np.random.default_rng(1).uniform(-1, 1, (3, 7)))
    for seeds, said in (
        ([-3, 1], "must not be negative"),
        ([2**70, 1], r"below 2\*\*63"),
        ([5], "reseed holds 1 seeds"),
        ([5, None], "every fork"),
        (7, "every fork"),
    ):
        with pytest.raises(ValueError, match=said):
            envs.unwrapped.fork([0, 0], [1, 2], reseed=seeds)
    envs.unwrapped.fork([0, 0], [1, 2], reseed=np.array([7, 8]))
    obs, reward, *_ = envs.step(np.tile(np.random.default_rng(2).uniform(-1, 1, (1, 7)), (3, 1)))
    assert reward[0] == reward[1] == reward[2]
    assert all(np.array_equal(part[0], part[2]) for part in obs.values())


GOALS: dict[str, Any] = {
    "task_options": {"reward": "sparse"},
    "obs_keys": ["observation", "achieved_goal", "desired_goal"],
    "pictures": False,
}


@pytest.mark.parametrize("env_id", [PLACE, "worldenv/HandLiftSim-v0", "worldenv/HandPushSim-v0"])
def test_rewards_are_computed_anew_for_other_goals(env_id: str) -> None:
    """The form of Gymnasium-Robotics' GoalEnv."""
    envs, alone = made(2, env_id, **GOALS), gym.make(env_id, **GOALS).unwrapped
    obs, _ = envs.reset(seed=3)
    assert (obs["achieved_goal"] != obs["desired_goal"]).any(1).all()
    obs, reward, *_ = envs.step(np.zeros((2, 7)))
    reached, wanted = obs["achieved_goal"], obs["desired_goal"]
    np.testing.assert_array_equal(reward, [-1, -1])
    np.testing.assert_array_equal(envs.unwrapped.compute_reward(reached, wanted, {}), reward)
    np.testing.assert_array_equal(envs.unwrapped.compute_reward(reached, reached + [0, 0.039, 0], [{}, {}]), [0, 0])  # noqa: RUF005
    alone.reset(seed=3)
    obs, single, *_ = alone.step(np.zeros(7))
    assert single == alone.compute_reward(obs["achieved_goal"], obs["desired_goal"], {}) == -1
    np.testing.assert_array_equal(obs["achieved_goal"], reached[0])
    with pytest.raises(ValueError, match=r"achieved_goal has shape \(2, 3\), desired_goal \(3,\)"):
        alone.compute_reward(reached, wanted[0], {})
    with pytest.raises(ValueError, match=r"pass \(\.\.\., 3\) of each"):
        alone.compute_reward(reached[:, :2], wanted[:, :2], {})
    with pytest.raises(ValueError, match="NaN or infinity"):
        alone.compute_reward(reached * np.inf, wanted, {})
    assert {*alone.observation_space} == {"observation", "achieved_goal", "desired_goal"}
    for less in ({"obs_keys": ["proprio"]}, {"task_options": {}}):
        other = made(1, env_id, **{**GOALS, **less}).unwrapped
        assert not hasattr(other, "compute_reward"), "SB3 takes whatever has it for a GoalEnv"
        with pytest.raises(AttributeError, match=r"task_options=\{'reward': 'sparse'\} and obs_keys="):
            _ = other.compute_reward


def test_hindsight_replay_learns_from_it() -> None:
    pytest.importorskip("stable_baselines3", reason="needs pip install worldenv[agents]")
    from stable_baselines3 import SAC, HerReplayBuffer
    from stable_baselines3.common.env_checker import check_env as check_sb3

    from worldenv.envs.sb3 import SB3VecEnv

    check_sb3(gym.make(PLACE, **GOALS).unwrapped)
    envs = SB3VecEnv(made(2, max_episode_steps=4, **GOALS))
    policy = {"net_arch": [8]}
    model = SAC(
        "MultiInputPolicy",
        envs,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=16,
        batch_size=8,
        policy_kwargs=policy,
    )
    model.learn(32)
    assert isinstance(model.replay_buffer, HerReplayBuffer)
    assert set(model.replay_buffer.sample(64).rewards.flatten().tolist()) == {-1.0, 0.0}, "some goals were reached"


def test_what_falls_off_the_table_costs_no_more_and_no_more() -> None:
    task = make_task("hand_place")
    first = situation(xy=(0.1, 0.1))
    state = task.reset(Start(first.frames[:, 0], {name: part[:, 0] for name, part in first.signals.items()}, {}))
    far, farther = (float(task.step(state, situation(z=z)).reward) for z in (-2.0, -300.0))
    assert far == farther < -5
    with pytest.raises(ValueError, match=r"distance_scale=0\.0 must be positive"):
        make_task("hand_place", {"distance_scale": 0})


def test_what_spins_ever_faster_is_read_at_most() -> None:
    """Random joints knock an object off the table within an episode, and it spins as it falls."""
    envs = made(16, action_mode="joints", pictures=False, obs_keys=["object"])
    envs.reset(seed=1000)
    envs.action_space.seed(1)
    obs = [envs.step(envs.action_space.sample())[0]["object"] for _ in range(36)]
    assert np.abs(obs).max() == 1000


def test_depth_and_frames_are_rendered() -> None:
    with pytest.raises(ValueError, match="depth is of one"):
        made(1, pictures=False, obs_keys=["depth"])
    env = gym.make(PLACE, render_mode="depth_array")
    env.reset(seed=0)
    depth = env.render()
    assert isinstance(depth, np.ndarray)
    assert 0.2 < depth.min() < depth.max() < 1.5


def situation(z: float = 0.024, xy: tuple[float, float] = (0.0, 0.0), speed: float = 0.0, touch: bool = False) -> Chunk:
    thing = torch.zeros(1, 1, 13)
    thing[..., :3], thing[..., 7] = torch.tensor([*xy, z]), speed
    signals = {"object": thing, "contact": torch.full((1, 1, 6), float(touch)), "keypoints": torch.zeros(1, 1, 21, 3)}
    return Chunk(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), signals | {"target": torch.zeros(1, 1, 3)})


@pytest.mark.parametrize(
    ("task", "how", "done"),
    [
        ("hand_place", {}, True),
        ("hand_place", {"touch": True}, False),
        ("hand_place", {"xy": (0.06, 0.0)}, False),
        ("hand_place", {"z": 0.05}, False),
        ("hand_place", {"speed": 0.2}, False),
        ("hand_lift", {}, False),
        ("hand_lift", {"z": 0.08, "touch": True}, True),
        ("hand_lift", {"z": 0.08}, False),
        ("hand_push", {"touch": True}, True),
        ("hand_push", {"xy": (0.05, 0.0)}, False),
    ],
)
def test_when_tasks_are_done(task: str, how: dict[str, Any], done: bool) -> None:
    made = make_task(task)
    first = situation(xy=(0.1, 0.1))
    state = made.reset(Start(first.frames[:, 0], {name: part[:, 0] for name, part in first.signals.items()}, {}))
    outcome = made.step(state, situation(**how))
    assert bool(outcome.terminated) == bool(outcome.success) == done
    if task == "hand_push" and done:  # what was carried does not count
        carried = made.step(state, situation(z=0.06)).state
        assert not made.step(carried, situation(**how)).success
