from dataclasses import replace

import pytest
import torch

from worldenv.bodies.camera import press
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.geometry.action import camera_to_c2w, keys_to_camera
from worldenv.memory.config import with_policy
from worldenv.world.config import WorldConfig
from worldenv.world.world import World

CHUNK = 4
HEIGHT, WIDTH = 48, 64


def commands(engine: Engine, keys: list[tuple[int, int]]) -> Track:
    """Hold one pair of key codes per env for a chunk."""
    codes = torch.tensor(keys)[:, None].expand(-1, engine.spec.chunk_latents, -1)
    return press(codes, engine.c2w, engine.spec.steps)


def begun(world: World, seeds: list[int], **kwargs: object) -> Engine:
    engine = Engine(world, len(seeds), **kwargs)  # type: ignore[arg-type]
    engine.reset(seeds=seeds, starts=[None] * len(seeds))
    return engine


def walk(engine: Engine, num_chunks: int, *, keys: tuple[int, int] = (1, 1)) -> torch.Tensor:
    return torch.stack([engine.step(commands(engine, [keys] * engine.num_envs)).frames for _ in range(num_chunks)])


def test_shapes_of_reset_and_step(tiny_world: World) -> None:
    engine = Engine(tiny_world, 3)
    first = engine.reset(seeds=[0, 1, 2], starts=[5, None, 7])
    assert first.frames.shape == (3, 1, HEIGHT, WIDTH, 3)
    assert first.frames.dtype == torch.uint8
    assert first.signals["c2w"].shape == (3, 1, 4, 4)
    assert tiny_world.starts is not None
    assert torch.equal(first.frames[0, 0], tiny_world.starts.frames[5])
    assert torch.equal(first.frames[2, 0], tiny_world.starts.frames[7])
    actions = commands(engine, [(1, 0), (0, 1), (2, 2)])
    chunk = engine.step(actions)
    assert chunk.frames.shape == (3, 16, HEIGHT, WIDTH, 3)
    assert chunk.frames.dtype == torch.uint8
    assert torch.equal(chunk.signals["c2w"], actions["c2w"])
    assert torch.equal(engine.c2w, actions["c2w"][:, -1])
    assert engine.memory_chunks.tolist() == [2, 2, 2]


def test_same_seed_same_frames_other_seed_other_frames(tiny_world: World) -> None:
    one, again = (walk(begun(tiny_world, [3, 4]), 2) for _ in range(2))
    assert torch.equal(one, again)
    other = Engine(tiny_world, 2)
    starts: list[int | None] = [0, 0]
    other.reset(seeds=[3, 4], starts=starts)
    frames = other.step(commands(other, [(1, 0)] * 2)).frames
    assert not torch.equal(frames[0], frames[1]), "same start, same keys: the noise follows from the seed"


def test_actions_and_starts_matter(tiny_world: World) -> None:
    frames = [walk(begun(tiny_world, [3]), 1, keys=keys) for keys in ((1, 0), (0, 1))]
    assert not torch.equal(*frames)


def test_rows_equal_single_envs(tiny_world: World) -> None:
    """Bit-equal at the same batch size, within 2/255 across batch sizes on the first chunk."""
    batch = begun(tiny_world, [10, 11, 12])
    frames = walk(batch, 1)
    moved = begun(tiny_world, [12, 10, 11])
    assert torch.equal(walk(moved, 1)[0, [1, 2, 0]], frames[0])
    for row, seed in enumerate((10, 11, 12)):
        alone = walk(begun(tiny_world, [seed]), 1)
        assert (alone[0, 0].int() - frames[0, row].int()).abs().max() <= 2


def test_other_rows_actions_touch_nothing(tiny_world: World) -> None:
    one, two = begun(tiny_world, [1, 2]), begun(tiny_world, [1, 2])
    for other in ((1, 0), (2, 3), (0, 4)):
        a = one.step(commands(one, [(1, 1), other])).frames
        b = two.step(commands(two, [(1, 1), (0, 0)])).frames
        assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_partial_reset_leaves_other_rows_bit_identical(tiny_world: World) -> None:
    disturbed, plain = begun(tiny_world, [1, 2, 3]), begun(tiny_world, [1, 2, 3])
    walk(disturbed, 5)
    walk(plain, 5)
    chunk = disturbed.reset(seeds=[0, 77, 0], starts=[None, 9, None], mask=torch.tensor([False, True, False]))
    assert tiny_world.starts is not None
    assert torch.equal(chunk.frames[1, 0], tiny_world.starts.frames[9])
    assert disturbed.memory_chunks.tolist() == [6, 1, 6]
    for _ in range(2):
        a, b = walk(disturbed, 1)[0], walk(plain, 1)[0]
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    fresh = Engine(tiny_world, 3)
    fresh.reset(seeds=[5, 77, 6], starts=[None, 9, None])
    redone = begun(tiny_world, [1, 2, 3])
    redone.reset(seeds=[0, 77, 0], starts=[None, 9, None], mask=torch.tensor([False, True, False]))
    assert torch.equal(walk(fresh, 1)[0, 1], walk(redone, 1)[0, 1])


def test_stream_equals_step_latent_by_latent(tiny_world: World) -> None:
    one, two = begun(tiny_world, [8, 9]), begun(tiny_world, [8, 9])
    for _ in range(2):
        actions = commands(one, [(1, 0), (0, 1)])
        parts = list(one.stream(actions))
        assert [p.shape[1] for p in parts] == [4] * CHUNK
        assert torch.equal(torch.cat(parts, 1), two.step(actions).frames)


def test_cloned_episodes_continue_exactly(tiny_world: World) -> None:
    """Rows 2 and 3 continue as 0 and 1 would have, also where the lengths differ and in another engine."""
    engine = begun(tiny_world, [1, 2, 3, 4])
    walk(engine, 4)
    engine.reset(seeds=[0, 50, 0, 0], starts=[None] * 4, mask=torch.tensor([False, True, False, False]))
    walk(engine, 1)
    state = engine.clone_state([0, 1])
    kept = {key: value.clone() for key, value in state.items()}
    assert {len(v) for v in state.values()} == {2}
    walk(engine, 1, keys=(0, 2))
    engine.restore_state(state, [2, 3])
    engine.restore_state(state, [0, 1])
    for _ in range(2):
        frames = walk(engine, 1)[0]
        assert torch.equal(frames[:2], frames[2:])
    elsewhere = Engine(tiny_world, 4)
    elsewhere.reset(seeds=[9] * 4, starts=[None] * 4)
    elsewhere.restore_state(state, [0, 1])
    elsewhere.restore_state(state, [2, 3])
    walk(elsewhere, 1)
    assert torch.equal(walk(elsewhere, 1)[0], frames)
    assert all(torch.equal(state[key], kept[key]) for key in kept), "a clone is not written again"


def test_a_clone_restores_into_an_engine_that_was_never_reset(tiny_world: World) -> None:
    engine = begun(tiny_world, [1, 2])
    walk(engine, 1)
    state = engine.clone_state([0, 1])
    expected = walk(engine, 1)
    fresh = Engine(tiny_world, 2)
    fresh.restore_state(state, [0, 1])
    assert torch.equal(walk(fresh, 1), expected)


def test_restoring_leaves_other_rows_bit_identical(tiny_world: World) -> None:
    one, two = begun(tiny_world, [1, 2]), begun(tiny_world, [1, 2])
    walk(one, 2)
    walk(two, 2)
    one.restore_state(one.clone_state([0]), [0])
    saved = one.clone_state([0])
    walk(one, 1)
    walk(two, 1)
    one.restore_state(saved, [0])
    assert torch.equal(walk(one, 1)[0, 1], walk(two, 1)[0, 1])


@pytest.mark.parametrize("policy", ["worldplay", "worldscape", "recent", "random", "none"])
def test_every_memory_policy_steps_past_its_window(tiny_world: World, policy: str) -> None:
    engine = begun(tiny_world, [1, 2], memory=with_policy(tiny_world.config.memory, policy))
    frames = walk(engine, 6)
    assert engine.history.selection is not None
    assert engine.history.selection.index.shape == (2, 17 if policy == "worldscape" else 16)
    filled = int((engine.history.selection.index[0] >= 0).sum())
    assert filled == (4 if policy == "none" else 16) or policy in ("worldplay", "worldscape", "random")
    assert frames.shape == (6, 2, 16, HEIGHT, WIDTH, 3)


def test_memory_policies_agree_while_everything_fits_and_differ_later(tiny_world: World) -> None:
    recent, none = (begun(tiny_world, [1], memory=with_policy(tiny_world.config.memory, p)) for p in ("recent", "none"))
    first, second = walk(recent, 3), walk(none, 3)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[2], second[2])


def test_starting_from_a_picture(tiny_world: World) -> None:
    engine = Engine(tiny_world, 2)
    images = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chunk = engine.resume(images[:, None], {}, seeds=[1, 2])
    assert torch.equal(chunk.frames[:, 0], images)
    assert torch.equal(engine.c2w, torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    assert walk(engine, 1).shape == (1, 2, 16, HEIGHT, WIDTH, 3)


def test_a_world_without_starts_says_what_to_do(tiny_world: World) -> None:
    bare = World(tiny_world.config, vae=tiny_world.vae, dit=tiny_world.dit)
    with pytest.raises(ValueError, match="image"):
        Engine(bare, 1).reset(seeds=[0], starts=[None])


@pytest.mark.parametrize("start", [64, -1])
def test_unknown_starts_are_refused_before_anything_changes(tiny_world: World, start: int) -> None:
    engine, plain = begun(tiny_world, [1, 2]), begun(tiny_world, [1, 2])
    with pytest.raises(ValueError, match="64 start views"):
        engine.reset(seeds=[5, 6], starts=[0, start])
    assert torch.equal(walk(engine, 1), walk(plain, 1))


def test_follow_equals_stepping_along_the_path(tiny_world: World) -> None:
    one, two = begun(tiny_world, [1]), begun(tiny_world, [1])
    keys = torch.tensor([[[1, 0]] * 4 + [[0, 1]] * 4])
    path = camera_to_c2w(keys_to_camera(keys), one.c2w, one.spec.steps)
    assert torch.equal(one.path_keys(path), keys)
    followed = one.follow(path)
    stepped = [two.step(part).frames for part in Track(keys=keys, c2w=path).split(4)]
    assert torch.equal(followed.frames, torch.cat(stepped, 1))
    with pytest.raises(ValueError, match="multiple of chunk_latents"):
        one.follow(path[:, :3])


def test_without_decoding_latents_are_the_same(tiny_world: World) -> None:
    one, two = begun(tiny_world, [1, 2]), begun(tiny_world, [1, 2], decode=False)
    walk(one, 2)
    chunk = two.step(commands(two, [(1, 1)] * 2))
    assert chunk.frames.shape[1] == 1
    walk(two, 1)
    assert torch.equal(one.newest_latents(), two.newest_latents())
    assert one.newest_latents().shape == (2, CHUNK, *tiny_world.latent_shape)


def test_chunks_of_one_latent(tiny_world: World) -> None:
    engine = begun(tiny_world, [1], chunk_latents=1)
    assert engine.spec.chunk_frames == 4
    assert walk(engine, 14).shape == (14, 1, 4, HEIGHT, WIDTH, 3)
    assert engine.memory_chunks.tolist() == [15]


def test_a_stochastic_sampler_follows_the_seed_too(tiny_world: World) -> None:
    sampler = replace(tiny_world.config.sampler, stochastic=True)
    one, again = (walk(begun(tiny_world, [3, 4], sampler=sampler), 1) for _ in range(2))
    assert torch.equal(one, again)
    alone = walk(begun(tiny_world, [4], sampler=sampler), 1)
    assert (alone[0, 0].int() - one[0, 1].int()).abs().max() <= 2
    assert not torch.equal(one, walk(begun(tiny_world, [3, 4]), 1))


def test_the_context_can_be_edited(tiny_world: World) -> None:
    plain, edited = begun(tiny_world, [1]), begun(tiny_world, [1])
    edited.history.edit = lambda c: replace(c, latents=torch.zeros_like(c.latents))
    assert not torch.equal(walk(plain, 1), walk(edited, 1))


def test_two_engines_on_one_world_do_not_disturb_each_other(tiny_world: World) -> None:
    expected = walk(begun(tiny_world, [1]), 2)
    one, two = begun(tiny_world, [1]), begun(tiny_world, [5])
    frames = []
    for _ in range(2):
        frames.append(walk(one, 1)[0])
        walk(two, 1)
    assert torch.equal(torch.stack(frames), expected)


def test_config_default_is_a_valid_world() -> None:
    assert WorldConfig().spec.chunk_frames == 16
