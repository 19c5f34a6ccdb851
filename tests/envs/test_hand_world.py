"""The hand's ids on a toy world: what heads and kinematics say, without MuJoCo; rows, forks, states, bad input."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

import worldenv  # noqa: F401
from worldenv.bodies.hand import Hand, joints_at
from worldenv.bodies.hand_model import HAND
from worldenv.models.heads import HeadConfigs, ObjectConfig, ObjectHead
from worldenv.models.presets import PRESETS
from worldenv.models.vae import VAE
from worldenv.sims.mujoco.sim import HAND_SPEC
from worldenv.world.config import WorldConfig
from worldenv.world.starts import Starts
from worldenv.world.world import World

PLACE, PUSH = "worldenv/HandPlace-v0", "worldenv/HandPush-v0"
STEPS = 3


def hand_world() -> World:
    """A world of random weights with a pose video, a head that reads objects, six trays and two marks."""
    torch.manual_seed(0)
    tiny, spec = PRESETS["tiny"], replace(HAND_SPEC, chunk_latents=2)
    head = ObjectHead(ObjectConfig(widths=(8, 8), num_points=4, hidden=8))
    dit = replace(tiny.dit, camera_branch=False, key_branch=False, codes={"joints": 26}, pose_video=True)
    memory = replace(WorldConfig().memory, policy="recent", temporal_latents=4, retrieved_chunks=0)
    config = WorldConfig(
        name="hands", spec=spec, vae=tiny.vae, dit=dit, memory=memory, heads=HeadConfigs(object_read=head.config)
    )
    plans = torch.tensor([[-0.1, 0.0, 0.2, 0.0, 0.1, 0.0, -1.0]]).repeat(8, 1) + 0.01 * torch.randn(8, 7)
    starts = Starts(
        torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8),
        joints=joints_at(plans.double()).float(),
        target=torch.tensor([0.1, 0.05, 0.0]).repeat(8, 1),
        marked=torch.arange(8) >= 6,
    )
    world = World(config, vae=VAE(tiny.vae), heads={"object_read": head}, starts=starts)
    for module in world.parts().values():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        module.eval().requires_grad_(False)
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return hand_world()


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "hands"
    world.save_pretrained(path)
    return path


def made(world: World | Path, num_envs: int = 2, env_id: str = PLACE, **options: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, world=world if isinstance(world, World) else str(world), **options)


@pytest.mark.parametrize("env_id", [PLACE, "worldenv/HandLift-v0", PUSH])
def test_gymnasiums_checker_passes(world: World, env_id: str) -> None:
    env = gym.make(env_id, world=world, render_mode="rgb_array")
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (2, 7), np.float32)
    assert set(env.observation_space) == {"image", "proprio", "goal"}  # type: ignore[call-overload]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    assert [str(warning.message) for warning in said] == []


def test_a_world_on_disk_steps_without_mujoco(folder: Path) -> None:
    program = (
        "import sys; sys.modules['mujoco'] = None\n"
        "import gymnasium as gym, worldenv\n"
        f"envs = gym.make_vec({PLACE!r}, num_envs=2, world={str(folder)!r})\n"
        "envs.reset(seed=0); obs, reward, *_ = envs.step(envs.action_space.sample())\n"
        "print(obs['image'].shape, reward.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 64, 64, 3) (2,)", done.stderr


def test_what_is_known_of_the_hand_follows_from_its_commands(world: World) -> None:
    envs = made(world, autoreset_mode="Disabled")  # whatever random weights take for success
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


def test_joints_decide_what_is_shown(world: World) -> None:
    envs = made(world, 2, action_mode="joints", obs_mode="image", autoreset_mode="Disabled")
    _, info = envs.reset(seed=[5, 5])
    joints = np.repeat(info["joints"][:, None], 2, 1)
    joints[1, :, 2] += 0.1
    frames = envs.step(joints)[0]
    assert (frames[0] != frames[1]).any()


def test_forks_clones_and_files_go_on_alike(world: World, tmp_path: Path) -> None:
    envs = made(world, 3)
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


def test_marks_and_trays_have_their_own_start_views(world: World) -> None:
    for env_id, count in ((PLACE, 6), (PUSH, 2)):
        envs = made(world, 1, env_id)
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
def test_beginnings_that_cannot_be_are_refused(world: World, options: dict[str, Any], said: str) -> None:
    envs = made(world)
    before, _ = envs.reset(seed=0)
    with pytest.raises(ValueError, match=said):
        envs.reset(options=options)
    joints = HAND.limits.mean(0).float().numpy()[None]
    obs, info = envs.reset(options={"clip": np.zeros((1, 64, 64, 3), np.uint8), "joints": joints})
    np.testing.assert_array_equal(info["joints"][0], joints[0])
    assert obs["image"].max() == 0 < before["image"].max()


def test_worlds_without_hands_are_refused(tiny_world: World, world: World) -> None:
    with pytest.raises(ValueError, match="reads object_read, keypoints, and this world gives c2w; pass world=DIR"):
        made(tiny_world)
    with pytest.raises(ValueError, match="worldscape"):
        made(world, memory="worldscape")
    with pytest.raises(ValueError, match="this environment offers"):
        made(world, obs_keys=["palm"])
