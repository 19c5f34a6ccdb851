"""Clips that episodes begin from: their file, their planning, and what a world makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldenv  # noqa: F401  (registers the ids)
from tests.engine.test_engine import commands
from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.bodies.camera import press
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.geometry.contact import BODY
from worldenv.geometry.detour import leads_straight
from worldenv.geometry.path import FreeSpace
from worldenv.models.codec import to_frames
from worldenv.world.clips import Clips, load_clips, make_clips
from worldenv.world.world import World

CHUNKS = 3


def some_clips(world: World, count: int = 2) -> Clips:
    """Walk ahead and turn, with random latents and views."""
    generator, spec = torch.Generator().manual_seed(0), world.spec
    num_latents = CHUNKS * spec.chunk_latents
    keys = torch.tensor([[1, 1]]).expand(count, num_latents, 2)
    origin = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    c2w = torch.cat([origin[:, None], press(keys, origin, spec.steps)["c2w"]], 1)
    return Clips(
        latents=torch.randn(count, 1 + num_latents, *world.latent_shape, generator=generator).half(),
        signals=Track(keys=torch.cat([torch.zeros(count, 1, 2, dtype=torch.long), keys], 1), c2w=c2w),
        views=torch.randint(0, 256, (count, 1 + CHUNKS, spec.height, spec.width, 3), generator=generator).byte(),
        goals=c2w[:, 0],
        map_seeds=torch.arange(912_000, 912_000 + count),
        objects=torch.tensor([[0.0, -1.0, 2.0, 0.0, 3.0], [5.0, 3.0, -1.0, 4.0, 0.0]])
        .double()
        .expand(count, 2, 5)
        .clone(),
    )


def with_clips(world: World, clips: Clips) -> World:
    return World(world.config, vae=world.vae, dit=world.dit, heads=world.heads, starts=world.starts, clips=clips)


def test_a_world_keeps_its_clips(tiny_world: World, tmp_path: Path) -> None:
    clips = some_clips(tiny_world)
    with_clips(tiny_world, clips).save_pretrained(tmp_path)
    again = World.load(tmp_path)
    assert again.clips is not None
    for name, tensor in clips.tensors().items():
        assert torch.equal(again.clips.tensors()[name], tensor)
    still = Track({**clips.signals, "keys": torch.zeros_like(clips.signals["keys"])})
    with_clips(tiny_world, replace(clips, signals=still)).save_pretrained(tmp_path)
    assert World.load(tmp_path).sha256 != again.sha256  # they are part of the world


@pytest.mark.parametrize("wrong", ["views", "c2w", "latents", "goals", "objects"])
def test_edited_files_are_refused(tiny_world: World, tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "clips.safetensors"
    tensors = some_clips(tiny_world).tensors()
    if wrong in ("c2w", "goals", "objects"):
        tensors[wrong] = -2 * tensors[wrong]
    else:
        tensors[wrong] = tensors[wrong][:, :-1]
    save_tensors(file, tensors)
    with pytest.raises(ValueError, match="clips"):
        load_clips(file, tiny_world.spec, tiny_world.latent_shape)
    assert load_tensors(file)


def test_episodes_begin_at_the_end_of_a_clip(rendered_world: World) -> None:
    clips = some_clips(rendered_world)
    engine = Engine(rendered_world, 2, begins=clips, walls=True)
    chunk = engine.reset(seeds=[0, 1], starts=[1, 0])
    bank = engine.history.bank
    assert torch.equal(chunk.frames[:, 0], clips.views[[1, 0], -1])
    assert torch.equal(engine.c2w, clips.c2w[[1, 0], -1])
    assert bank.length.tolist() == [clips.latents.shape[1]] * 2
    assert torch.equal(bank.latents[:, : clips.latents.shape[1]], clips.latents[[1, 0]].float())
    every = torch.arange(1 + CHUNKS) * rendered_world.spec.chunk_latents
    assert torch.equal(bank.shown(every.expand(2, -1))[0], clips.views[[1, 0]])
    assert bank.given.tolist() == bank.length.tolist()
    assert engine.history.walls is not None
    assert engine.history.walls.evidence.flatten(1).any(1).all()


def test_the_decoder_goes_on_as_if_it_had_decoded_the_whole_clip(tiny_world: World) -> None:
    clips = some_clips(tiny_world)
    short = Engine(tiny_world, 2, begins=clips)
    short.reset(seeds=[0, 1], starts=[0, 1])
    whole = Engine(tiny_world, 2)
    whole.begin(torch.arange(2), clips.latents.float(), clips.signals, [0, 1])
    keys = [(1, 0), (0, 1)]
    for _ in range(2):
        assert torch.equal(
            short.step(commands(short, keys)).frames.int(), whole.step(commands(whole, keys)).frames.int()
        )


def test_clips_can_be_gone_on_from_in_other_chunks(rendered_world: World) -> None:
    clips = some_clips(rendered_world)
    world = rendered_world
    engine = Engine(world, 2, begins=clips, chunk_latents=2)
    engine.reset(seeds=[0, 1], starts=[0, 1])
    bank = engine.history.bank
    decoded = to_frames(world.vae.decode(clips.latents.float()))
    every = 2 * torch.arange(1 + 2 * CHUNKS)
    assert torch.equal(bank.shown(every.expand(2, -1))[0], decoded[:, ::8])
    with pytest.raises(ValueError, match=r"clips of 1 \+ 12 latents are not whole chunks of 5"):
        Engine(world, 2, begins=clips, chunk_latents=5)


def test_a_task_that_begins_with_a_clip_says_what_a_world_lacks(tiny_world: World) -> None:
    with pytest.raises(ValueError, match=r"task Navigate begins with a recorded clip, and world 'tiny' has none"):
        gym.make_vec("worldenv/Navigate-v1", num_envs=1, world=tiny_world)


def test_the_way_back_is_the_goal(tiny_world: World) -> None:
    envs = gym.make_vec("worldenv/Navigate-v1", num_envs=2, world=with_clips(tiny_world, some_clips(tiny_world)))
    obs, info = envs.reset(seed=0, options={"start": [0, 1]})
    goal = np.linalg.inv(info["c2w"]) @ np.eye(4)
    assert obs["goal"][:, [0, 2]] == pytest.approx(goal[:, [0, 2], 3], abs=1e-4)
    assert envs.single_action_space.n == 5  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"start=2, but the world has 2 start views, 0\.\.1"):
        envs.reset(options={"start": 2})
    envs.close()


def test_a_picture_of_the_goal_is_shown(tiny_world: World) -> None:
    clips = some_clips(tiny_world)
    envs = gym.make_vec("worldenv/ImageNav-v0", num_envs=2, world=with_clips(tiny_world, clips))
    obs, _ = envs.reset(seed=0, options={"start": [1, 0]})
    assert envs.observation_space.contains(obs)
    assert np.array_equal(obs["goal_image"], clips.views[[1, 0], 0].numpy())
    obs, _, terminated, *_ = envs.step(np.array([0, 1]))
    assert np.array_equal(obs["goal_image"], clips.views[[1, 0], 0].numpy())
    assert not terminated.any()
    envs.close()
    facing = gym.make_vec(
        "worldenv/ImageNav-v0",
        num_envs=2,
        world=with_clips(tiny_world, clips),
        task_options={"tolerance": 100.0, "angle_tolerance_deg": 100.0},
    )
    facing.reset(seed=0, options={"start": [0, 1]})
    turned = np.rad2deg(np.arccos((np.trace(clips.c2w[0, -1, :3, :3].numpy()) - 1) / 2))
    assert turned > 100  # by twelve turns to the right, and one back is still too much
    assert not facing.step(np.array([0, 0]))[2].any()
    assert facing.step(np.array([4, 4]))[2].all()  # left
    facing.close()


def test_who_is_led_away_goes_where_the_task_says(tiny_world: World) -> None:
    world, poses = with_clips(tiny_world, some_clips(tiny_world)), []
    for action in (0, 3):
        envs = gym.make_vec("worldenv/Revisit-v1", num_envs=2, world=world)
        envs.reset(seed=0)
        for _ in range(3):  # at least so many steps are not the agent's
            info = envs.step(np.full(2, action))[-1]
        poses.append(info["c2w"])
        assert np.array_equal(info["c2w"], info["c2w_commanded"])
        state = envs.unwrapped.clone_state([1])  # type: ignore[attr-defined]
        seen = [envs.step(np.full(2, action)) for _ in range(2)]
        envs.unwrapped.restore_state(state, [0])  # type: ignore[attr-defined]
        for obs, *_, told in seen:
            again, *_, found = envs.step(np.full(2, action))
            assert np.array_equal(again[0], obs[1])
            assert np.array_equal(found["c2w"][0], told["c2w"][1])
        envs.close()
    assert np.array_equal(*poses)
    assert not np.array_equal(poses[0][0], poses[0][1])


@pytest.mark.usefixtures("sims")
def test_recorded_clips_lead_from_one_object_to_another_behind_walls(tiny_world: World) -> None:
    from worldenv.sims.doom.generate import generate_maze
    from worldenv.sims.doom.presets import maze_config

    clips = make_clips(tiny_world.vae, tiny_world.spec, 2)
    for seed, c2w, objects in zip(clips.map_seeds.tolist(), clips.c2w, clips.objects, strict=True):
        maze = generate_maze(seed, maze_config("classic-many"))
        assert {(float(one.class_idx), *one.box) for one in maze.objects} >= {tuple(row) for row in objects.tolist()}
        space = FreeSpace(maze.free, 1.0)
        ends = [tuple(c2w[i, [0, 2], 3].tolist()) for i in (0, -1)]
        assert not leads_straight(space, ends[1], ends[0], tiny_world.spec.steps.move)  # type: ignore[arg-type]
        for x, z in c2w[:, [0, 2], 3].tolist():
            assert space.contains(x, z, clearance=BODY)
    twin = gym.make_vec("worldenv/NavigateSim-v1", num_envs=2, world=with_clips(tiny_world, clips))
    obs, info = twin.reset(seed=0, options={"start": [0, 1]})
    assert info["c2w"] == pytest.approx(clips.c2w[:, -1].numpy(), abs=0.05)
    assert (np.abs(obs["image"].astype(int) - clips.views[:, -1].numpy()) < 40).mean() > 0.95  # objects are there
    twin.close()


def test_a_line_is_straight_or_it_is_not() -> None:
    free = np.ones((12, 12), bool)
    assert leads_straight(FreeSpace(free, 1.0), (2, 2), (9, 9), 0.25)
    free[6, 3:10] = False  # a wall between, wider than one slides around
    free[4:7, 3] = free[4:7, 9] = False
    assert not leads_straight(FreeSpace(free, 1.0), (6, 2), (6, 9), 0.25)
