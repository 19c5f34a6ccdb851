"""Scripted policies do what their names say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from worldenv.dynamics.labels import CLASSES
from worldenv.geometry.action import BASIC_KEYS, ActionSteps, camera_to_c2w, keys_to_camera
from worldenv.geometry.pose import look
from worldenv.geometry.pose_string import parse_pose_string
from worldenv.world.starts import Starts
from worldenv.world.world import World
from worldenv_agents import rank
from worldenv_agents.chase import Chase, coloured
from worldenv_agents.environments import EnvConfig
from worldenv_agents.evaluate import evaluate, evaluate_named
from worldenv_agents.planners import compare
from worldenv_agents.random_agent import RandomPolicy
from worldenv_agents.scripted import (
    BACK,
    FORWARD,
    LEFT,
    RIGHT,
    FollowKeys,
    FollowPath,
    Retrace,
    SeekGoal,
    Wander,
    camera_between,
)

STEPS = ActionSteps()
QUARTER = np.pi / 4


def spread_goals(count: int) -> torch.Tensor:
    """Return goals 1 to 8 m from the origin in all directions, (count, 4, 4)."""
    angle = torch.arange(count, dtype=torch.float64) * 2.4
    distance = torch.linspace(1, 8, count, dtype=torch.float64)
    return look(torch.stack([distance * angle.sin(), 0 * angle, distance * angle.cos()], -1), 0 * angle)


def test_the_goal_seeker_always_arrives_where_there_are_no_walls(make_blank: Callable[..., Any]) -> None:
    envs = make_blank(64, goals=spread_goals(64), limit=32)
    assert evaluate(SeekGoal(turn=QUARTER, move=1.0), envs, episodes=256).success.all()


def test_the_goal_seeker_beats_random_on_navigate(tiny_world_dir: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), max_episode_steps=8)
    seeker, random = (evaluate_named(name, where, episodes=16, num_envs=8) for name in ("seek_goal", "random"))
    assert seeker.success.mean() == 1
    assert (seeker.returns >= random.returns - 1e-9).mean() > 0.9
    assert seeker.returns.mean() > random.returns.mean() + 1


def test_the_goal_seeker_goes_round_what_stops_it() -> None:
    policy, goal = SeekGoal(turn=QUARTER, move=1.0), np.array([[0, 0, 5, 0], [0, 0, 5, 0]], np.float32)
    policy.reset(2)
    assert policy.act({"goal": goal}, {}).tolist() == [FORWARD, FORWARD]
    free = np.array([[0, 0, 5, 0], [0, 0, 4, 0]], np.float32)  # row 0 stands where it stood, row 1 has moved
    stuck = policy.act({"goal": free}, {})
    assert stuck[0] in (RIGHT, LEFT)
    assert stuck[1] == FORWARD


def test_out_and_back_succeeds_on_revisit(tiny_world_dir: Path) -> None:
    where = EnvConfig(env="worldenv/Revisit-v0", world=str(tiny_world_dir))
    scores = evaluate_named("out_and_back", where, episodes=4)
    assert scores.success.all()
    assert (scores.lengths == 10).all()


def test_what_was_done_to_one_is_taken_back() -> None:
    """Two rows are led, the second one into a wall that takes its second step; then both go home."""
    policy, led = Retrace(turn=QUARTER, move=1.0), ([RIGHT, FORWARD, LEFT, BACK], [LEFT, LEFT, FORWARD, FORWARD])
    here = start = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    policy.reset(2)
    home = [0, 0]
    for i in range(9):
        asked = policy.act({}, {"c2w": here.numpy()})
        action = np.array([way[i] for way in led]) if i < 4 else asked
        keys = torch.tensor(BASIC_KEYS)[action][:, None].expand(-1, 4, -1)
        told = camera_to_c2w(keys_to_camera(keys), here, STEPS)[:, -1]
        told[1] = here[1] if i == 3 else told[1]
        here = told
        home = [first or i * torch.allclose(a, b) for first, a, b in zip(home, here, start, strict=True)]
    assert home == [7, 6]


def test_who_is_home_turns_to_where_it_looked() -> None:
    policy = Retrace(turn=QUARTER, move=1.0)
    policy.reset(1)
    policy.act({}, {"c2w": np.eye(4)[None]})
    slid = look(torch.tensor([0.3, 0.0, 0.0]).double(), torch.tensor(0.3).double()).numpy()  # neither step nor turn
    assert policy.act({}, {"c2w": slid[None]}).tolist() == [LEFT]


def test_followed_keys_lead_where_the_pose_string_says(make_blank: Callable[..., Any]) -> None:
    text = "w-6, right-5, d-3"
    envs = make_blank(2, goals=spread_goals(1) + 100, action_mode="keys_per_latent")
    policy = FollowKeys(text, num_latents=4)
    policy.reset(2)
    obs, info = envs.reset(seed=0)
    for _ in range(6):  # 14 latents are 4 chunks; afterwards the camera stands still
        obs, _, _, _, info = envs.step(policy.act(obs, info))
    wanted = camera_to_c2w(keys_to_camera(parse_pose_string(text)), torch.eye(4, dtype=torch.float64), STEPS)
    np.testing.assert_allclose(info["c2w"], np.stack([wanted[-1]] * 2), atol=1e-9)


def test_followed_paths_are_met_at_every_chunk(make_blank: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    camera = torch.rand(2, 16, 5, generator=generator, dtype=torch.float64) * 2 - 1
    path = camera_to_c2w(camera, torch.eye(4, dtype=torch.float64).repeat(2, 1, 1), STEPS)
    envs = make_blank(2, goals=spread_goals(1) + 100, action_mode="camera_per_latent")
    policy = FollowPath(path, steps=STEPS, num_latents=4)
    policy.reset(2)
    obs, info = envs.reset(seed=0)
    for chunk in range(4):
        obs, _, _, _, info = envs.step(policy.act(obs, info))
        np.testing.assert_allclose(info["c2w"], path[:, 4 * chunk + 3], atol=1e-5)


def test_camera_between_inverts_the_walk_rule() -> None:
    generator = torch.Generator().manual_seed(1)
    camera = torch.rand(100, 2, 5, generator=generator, dtype=torch.float64) * 2 - 1
    path = camera_to_c2w(camera, torch.eye(4, dtype=torch.float64).repeat(100, 1, 1), STEPS)
    torch.testing.assert_close(camera_between(path[:, 0], path[:, 1], STEPS), camera[:, 1])


def test_paths_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one pose per latent"):
        FollowPath(torch.eye(4), steps=STEPS, num_latents=4)
    with pytest.raises(ValueError, match="for 3 envs"):
        FollowPath(torch.eye(4).repeat(3, 2, 1, 1), steps=STEPS, num_latents=4).reset(2)


@pytest.mark.parametrize(
    "action_mode", ["basic", "basic5", "discrete", "keys", "camera", "keys_per_latent", "camera_per_latent"]
)
def test_random_actions_fit_every_mode_and_follow_the_seed(action_mode: str, tiny_world: World) -> None:
    envs = gym.make_vec("worldenv/Navigate-v0", num_envs=3, world=tiny_world, action_mode=action_mode)
    first, second, other = (RandomPolicy(envs.single_action_space, seed=seed) for seed in (1, 1, 2))
    obs, info = envs.reset(seed=0)
    actions = []
    for policy in (first, second, other):
        policy.reset(3)
        actions.append([policy.act(obs, info) for _ in range(4)])
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    envs.step(actions[0][0])


@pytest.fixture(scope="module")
def maze_world_dir(sims: None, tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world whose eight starts and goals lie in real mazes, two metres apart in the open."""
    from worldenv.sims import generate_maze
    from worldenv.sims.doom.row import draw_start

    assert tiny_world.starts is not None
    seeds = list(range(900_000, 900_008))
    c2w = torch.stack([draw_start(generate_maze(seed), np.random.default_rng(seed)) for seed in seeds])
    goals = c2w.clone()
    goals[:, :3, 3] += 2 * c2w[:, :3, 2] * 0.9
    goals[:, :3, :3] = torch.eye(3, dtype=torch.float64)
    world = World(tiny_world.config, vae=tiny_world.vae, dit=tiny_world.dit)
    world.starts = Starts(tiny_world.starts.frames[:8], c2w, goals, torch.tensor(seeds))
    folder = tmp_path_factory.mktemp("worlds") / "maze"
    world.save_pretrained(folder)
    return folder


@pytest.mark.sim
def test_the_same_policy_runs_on_the_simulator_twin(maze_world_dir: Path) -> None:
    where = EnvConfig(world=str(maze_world_dir), max_episode_steps=6)
    for place in (replace(where, dynamics="sim"), replace(where, env="worldenv/NavigateSim-v0")):
        seeker, random = (evaluate_named(name, place, episodes=4, num_envs=4) for name in ("seek_goal", "random"))
        assert seeker.success.mean() > random.success.mean()
        assert seeker.returns.mean() > random.returns.mean()


def test_wander_turns_aside_where_it_was_stopped() -> None:
    policy = Wander(turn=math.pi / 4, move=1.0)
    policy.reset(2)
    poses = np.tile(np.eye(4), (2, 1, 1))
    assert policy.act(None, {"c2w": poses}).tolist() == [0, 0]
    poses[0, 2, 3] = 1.0  # row 0 walked on, row 1 was stopped
    first = policy.act(None, {"c2w": poses})
    assert first[0] == 0
    assert first[1] in (2, 3)
    taken = [int(first[1])]
    for _ in range(8):
        poses[0, 2, 3] += 1.0
        taken.append(int(policy.act(None, {"c2w": poses})[1]))
    assert 0 in taken  # it walks again
    assert set(taken[: taken.index(0)]) == {taken[0]}  # after turning one way


def test_the_chaser_turns_to_the_colour_of_its_class_and_walks() -> None:
    goals = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index("blue column")] * 3]
    pictures = np.full((3, 48, 64, 3), (200, 30, 30), np.uint8)
    pictures[0, 10:40, 2:10] = pictures[1, 10:40, 28:36] = pictures[2, 10:40, 55:62] = (20, 20, 190)
    policy = Chase(turn=QUARTER, move=1.0)
    policy.reset(3)
    info = {"c2w": np.tile(np.eye(4), (3, 1, 1))}
    assert policy.act({"image": pictures, "goal": goals}, info).tolist() == [LEFT, FORWARD, RIGHT]
    assert coloured(pictures[0], "red").mean() > 0.9
    assert not coloured(pictures[0], "yellow").any()
    with pytest.raises(ValueError, match="'pink' is none of red"):
        coloured(pictures[0], "pink")


@pytest.mark.parametrize(
    ("name", "env", "message"),
    [
        ("chase", "Navigate-v1", "reads a class in obs.'goal'., as in ObjectNav; here that has shape 4"),
        ("straight", "ObjectNav-v0", "reads a pose in obs.'goal'., as in Navigate; here that has shape 12"),
    ],
)
def test_goals_of_another_kind_are_refused(name: str, env: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_named(name, EnvConfig(env=f"worldenv/{env}"), episodes=1, num_envs=1)
    for by_default in (compare.default_policies, rank.default_policies):
        assert not any(each.endswith(name) for each in by_default(f"worldenv/{env}")), "nobody who would be refused"
