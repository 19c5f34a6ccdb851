"""The hand's ids on a toy world: what heads and kinematics say, without MuJoCo; rows, forks, states, bad input."""

from __future__ import annotations

import subprocess
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldenv  # noqa: F401
from worldenv.base.rng import derive_seed
from worldenv.bodies.hand import Hand
from worldenv.bodies.hand_model import HAND
from worldenv.world.world import World

PLACE, PUSH = "worldenv/HandPlace-v0", "worldenv/HandPush-v0"
STEPS = 3


def made(world: World | Path, num_envs: int = 2, env_id: str = PLACE, **options: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, world=world if isinstance(world, World) else str(world), **options)


def test_a_world_on_disk_steps_without_mujoco(hand_world_dir: Path) -> None:
    program = (
        "import sys; sys.modules['mujoco'] = None\n"
        "import gymnasium as gym, worldenv\n"
        f"envs = gym.make_vec({PLACE!r}, num_envs=2, world={str(hand_world_dir)!r})\n"
        "envs.reset(seed=0); obs, reward, *_ = envs.step(envs.action_space.sample())\n"
        "print(obs['image'].shape, reward.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 64, 64, 3) (2,)", done.stderr


def test_what_is_known_of_the_hand_follows_from_its_commands(hand_world: World) -> None:
    envs = made(hand_world, autoreset_mode="Disabled")  # whatever random weights take for success
    _, info = envs.reset(seed=0)
    action = np.random.default_rng(0).uniform(-1, 1, (2, 2, 7))
    before = torch.from_numpy(info["joints"])
    commanded = Hand().command(torch.from_numpy(action), "ee_delta", {"joints": before}, envs.unwrapped.core.spec)
    obs, _, _, _, info = envs.step(action)
    joints = commanded["joints"]
    torch.testing.assert_close(torch.from_numpy(obs["proprio"][:, :26]), joints[:, -1])
    torch.testing.assert_close(torch.from_numpy(obs["proprio"][:, 26:]), 6 * (joints[:, -1] - joints[:, 0]))
    torch.testing.assert_close(torch.from_numpy(info["keypoints"]), Hand().keypoints(joints[:, -1]))
    np.testing.assert_allclose(obs["goal"][:, :2], [[0.1, 0.05]] * 2)
    assert info["object_read"].shape == (2, 5)


@pytest.mark.parametrize(("options", "steps"), [({}, 18), ({"max_episode_steps": 5}, 5)])
def test_an_episode_takes_as_long_whatever_a_step_is(hand_world: World, options: dict[str, Any], steps: int) -> None:
    """36 latents, of which a step of this world has two, and one of the simulator's one."""
    assert made(hand_world, 1, **options).unwrapped.core.config.max_episode_steps == steps


def test_joints_decide_what_is_shown(hand_world: World) -> None:
    envs = made(hand_world, 2, action_mode="joints", obs_mode="image", autoreset_mode="Disabled")
    _, info = envs.reset(seed=[5, 5])
    joints = np.repeat(info["joints"][:, None], 2, 1)
    joints[1, :, 2] += 0.1
    frames = envs.step(joints)[0]
    assert (frames[0] != frames[1]).any()


def test_a_fork_is_its_trunk_to_the_last_bit(hand_world: World) -> None:
    """Through the time limit and beyond: latents, what led to them, generators, what the head remembers."""
    envs = made(hand_world, 4, obs_keys=["image", "proprio", "keypoints", "goal"], max_episode_steps=3)
    core, rng = envs.unwrapped.core, np.random.default_rng(2)
    envs.reset(seed=[3, 4, 5, 6])
    envs.step(rng.uniform(-1, 1, (4, 2, 7)))
    envs.reset(options={"reset_mask": np.array([False, True, False, False])})  # ages differ
    envs.step(rng.uniform(-1, 1, (4, 2, 7)))
    envs.unwrapped.fork([0, 1], [2, 3])
    for _ in range(4):
        action = rng.uniform(-1, 1, (2, 2, 7))
        obs, reward, terminated, truncated, info = envs.step(np.concatenate([action, action]))
        for part in (*obs.values(), reward, terminated, truncated, *(info[name] for name in ("joints", "object_read"))):
            np.testing.assert_array_equal(part[:2], part[2:])
        trunk, fork = core.clone_state([0, 1]), core.clone_state([2, 3])
        assert [name for name in trunk if not torch.equal(trunk[name], fork[name])] == []


def test_a_reset_row_begins_at_rest_and_moves_no_other(hand_world: World) -> None:
    action = np.random.default_rng(3).uniform(-1, 1, (3, 3, 2, 7))
    shown = []
    for resets in (True, False):
        envs = made(hand_world, 3, obs_keys=["image", "proprio", "keypoints"], autoreset_mode="Disabled")
        envs.reset(seed=0)
        envs.step(action[0])
        envs.unwrapped.go_on()
        if resets:
            obs, info = envs.reset(seed=[0, 77, 0], options={"reset_mask": np.array([False, True, False])})
            np.testing.assert_array_equal(obs["proprio"][1, 26:], 0)
            np.testing.assert_array_equal(obs["proprio"][1, :26], info["joints"][1])
        shown.append([envs.step(part)[0] for part in action[1:] if not envs.unwrapped.go_on()])
    for one, other in zip(*shown, strict=True):
        for name, part in one.items():
            np.testing.assert_array_equal(part[[0, 2]], other[name][[0, 2]])
            assert (part[1] != other[name][1]).any()
    alone = made(hand_world, 3, obs_keys=["image", "proprio", "keypoints"], autoreset_mode="Disabled")
    alone.reset(seed=[5, 77, 6])
    for one, part in zip(shown[0], action[1:], strict=True):
        obs = alone.step(part)[0]
        alone.unwrapped.go_on()
        assert all(np.array_equal(obs[name][1], one[name][1]) for name in obs)


def test_forks_clones_and_files_go_on_alike(hand_world: World, tmp_path: Path) -> None:
    envs = made(hand_world, 3)
    rng = np.random.default_rng(1)
    envs.reset(seed=0)
    envs.step(rng.uniform(-1, 1, (3, 2, 7)))
    envs.unwrapped.save_state(tmp_path / "state.safetensors", [0])
    envs.unwrapped.fork([0], [1])
    actions = rng.uniform(-1, 1, (STEPS, 3, 2, 7))
    actions[:, 1] = actions[:, 0]
    first = [envs.step(action) for action in actions]
    envs.unwrapped.load_state(tmp_path / "state.safetensors", [2])
    for action, (obs, reward, *_) in zip(actions, first, strict=True):
        again = envs.step(action[[1, 2, 0]])
        assert all(np.array_equal(obs[key][0], obs[key][1]) for key in obs)
        assert all(np.array_equal(obs[key][0], again[0][key][2]) for key in obs)
        assert reward[0] == reward[1] == again[1][2]


def test_marks_and_trays_have_their_own_start_views(hand_world: World) -> None:
    for env_id, count in ((PLACE, 6), (PUSH, 2)):
        envs = made(hand_world, 1, env_id)
        envs.reset(options={"start": count - 1})
        with pytest.raises(ValueError, match=f"{count} start views"):
            envs.reset(options={"start": count})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": np.zeros((64, 64, 3), np.uint8)}, "does not say where the joints are"),
        ({"clip": np.zeros((1, 64, 64, 3), np.uint8)}, r"needs options\['joints'\]"),
        (
            {"clip": np.zeros((1, 64, 64, 3), np.uint8), "joints": np.full((1, 26), 2.0, np.float32)},
            "'wrist_x' is 2 in row 0",
        ),
        ({"goal": [0.1, 0.0]}, "goals come with the start views"),
    ],
)
def test_beginnings_that_cannot_be_are_refused(hand_world: World, options: dict[str, Any], said: str) -> None:
    envs = made(hand_world)
    before, _ = envs.reset(seed=0)
    with pytest.raises(ValueError, match=said):
        envs.reset(options=options)
    joints = HAND.limits.mean(0).float().numpy()[None]
    with pytest.raises(ValueError, match=r"options\['joints'\] has shape \(7, 1, 26\): 7 of them"):
        envs.reset(options={"clip": np.zeros((1, 64, 64, 3), np.uint8), "joints": np.stack([joints] * 7), "start": 0})
    black = {"clip": np.zeros((1, 64, 64, 3), np.uint8), "joints": joints}
    wrong = (({}, r"needs options\['goal'\]"), ([0.1, -0.2], "outside the table"), ([0.1, 0.1, 0.1], "pass x and y"))
    for goal, why in wrong:
        with pytest.raises(ValueError, match=why):
            envs.reset(options={**black, **({"goal": goal} if goal else {})})
    obs, info = envs.reset(options={**black, "goal": [0.1, -0.1]})
    np.testing.assert_allclose(obs["goal"][:, :2], [[0.1, -0.1]] * len(obs["goal"]))
    np.testing.assert_array_equal(info["joints"][0], joints[0])
    assert obs["image"].max() == 0 < before["image"].max()


def test_what_was_achieved_is_what_the_head_reads(hand_world: World) -> None:
    keys = ["achieved_goal", "desired_goal"]
    envs = made(hand_world, 2, obs_keys=keys, task_options={"reward": "sparse"})
    envs.reset(seed=0)
    obs, reward, _, _, info = envs.step(envs.action_space.sample())
    achieved, desired = obs["achieved_goal"], obs["desired_goal"]
    np.testing.assert_array_equal(achieved, info["object_read"][:, :3])
    np.testing.assert_array_equal(envs.unwrapped.compute_reward(achieved, desired, info), reward)


@pytest.mark.manip
def test_the_twin_lays_the_tables_that_the_start_views_show(hand_world: World, tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    from worldenv.sims.mujoco.row import draw_start

    envs, twin = made(hand_world, 3, PUSH), made(hand_world, 3, PUSH, dynamics="sim", obs_keys=["proprio", "goal"])
    assert twin.single_action_space == envs.single_action_space
    marked = [6, 7]  # of tables 0 to 7
    for options in ({}, {"start": [1, 0, 1]}):
        twin.reset(seed=4, options=options)
        placed = [draw_start(table) for table in marked]
        drawn = options.get("start") or [derive_seed(4 + row, "start") % 2 for row in range(3)]
        state = twin.unwrapped.core.dynamics.clone_state([0, 1, 2])
        for row, start in enumerate(drawn):
            assert torch.equal(state["commanded"][row], placed[start].joints)
    with pytest.raises(ValueError, match="2 start views"):
        twin.reset(options={"start": 2})
    twin.unwrapped.save_state(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=r"saved with tables \[6, 7\], this environment has None"):
        gym.make_vec(PUSH, num_envs=3, dynamics="sim", chunk_latents=2).unwrapped.load_state(
            tmp_path / "state.safetensors"
        )
    other = copy(hand_world)
    other.starts = replace(hand_world.starts, tables=None)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="num_starts of `worldenv train vae`"):
        made(other, 1, PUSH, dynamics="sim")


def test_worlds_without_hands_are_refused(tiny_world: World, hand_world: World) -> None:
    with pytest.raises(ValueError, match="reads object_read, keypoints, and this world gives c2w; leave world out"):
        made(tiny_world)
    with pytest.raises(ValueError, match=r"^world 'tiny' shows no hand, .*leave it out$"):
        made(tiny_world, dynamics="sim")
    with pytest.raises(ValueError, match="worldscape"):
        made(hand_world, memory="worldscape")
    with pytest.raises(ValueError, match="this environment offers"):
        made(hand_world, obs_keys=["palm"])
