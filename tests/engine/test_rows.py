"""Some rows advance, and real chunks in place of imagined ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldenv.bodies.camera import press
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import frames_of
from worldenv.engine.engine import Engine
from worldenv.memory.config import with_policy
from worldenv.world.world import World

POLICIES = ("worldplay", "worldscape", "recent", "random", "none")
AHEAD, TURN = [1, 0], [0, 1]


def begun(world: World, num_envs: int, policy: str) -> Engine:
    engine = Engine(world, num_envs, memory=with_policy(world.config.memory, policy))
    engine.reset(seeds=list(range(num_envs)), starts=list(range(num_envs)))
    return engine


def commands(engine: Engine, keys: list[list[int]], rows: list[int]) -> Track:
    codes = torch.tensor(keys)[:, None].expand(-1, engine.spec.chunk_latents, -1)
    return press(codes, engine.c2w[rows], engine.spec.steps)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rendered", [False, True])
def test_rows_advance_alone_and_the_others_stay_as_they_are(
    tiny_world: World, rendered_world: World, policy: str, rendered: bool
) -> None:
    world = rendered_world if rendered else tiny_world
    engine, other = begun(world, 3, policy), begun(world, 3, policy)
    for _ in range(6):
        engine.step(commands(engine, [AHEAD, TURN, AHEAD], [0, 1, 2]))
        other.step(commands(other, [AHEAD, TURN, AHEAD], [0, 1, 2]))
    before = engine.clone_state([1])
    made = engine.step(commands(engine, [TURN, AHEAD], [2, 0]), rows=[2, 0])
    assert made.frames.shape[0] == 2
    after = engine.clone_state([1])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)  # row 1 has not moved
    whole = other.step(commands(other, [AHEAD, AHEAD, TURN], [0, 1, 2]))
    for i, row in enumerate((2, 0)):
        assert (made.frames[i].int() - whole.frames[row].int()).abs().max() <= 2
        torch.testing.assert_close(engine.c2w[row], other.c2w[row])
    engine.step(commands(engine, [AHEAD], [1]), rows=[1])  # later than the others, and yet the same
    torch.testing.assert_close(engine.newest_latents()[1], other.newest_latents()[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_the_order_of_rows_is_that_of_the_answer(tiny_world: World, policy: str) -> None:
    engine, other = begun(tiny_world, 3, policy), begun(tiny_world, 3, policy)
    for keys in ([AHEAD, TURN, AHEAD], [TURN, TURN, AHEAD]):
        turned = engine.step(commands(engine, [keys[i] for i in (2, 0, 1)], [2, 0, 1]), rows=[2, 0, 1])
        plain = other.step(commands(other, keys, [0, 1, 2]))
        assert torch.equal(turned.frames, plain.frames[[2, 0, 1]])
        assert torch.equal(turned.signals["c2w"], plain.signals["c2w"][[2, 0, 1]])
    told = (engine.explain(), other.explain())
    assert all(torch.equal(told[0][name], told[1][name]) for name in told[1])
    asked = commands(engine, [AHEAD, TURN, TURN], [2, 0, 1])
    engine.observe(plain.frames[[2, 0, 1]], asked, rows=[2, 0, 1])
    other.observe(plain.frames, asked.at([1, 2, 0]))
    after = (engine.clone_state([0, 1, 2]), other.clone_state([0, 1, 2]))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[1])


def test_what_few_rows_remembered_first_is_told_of_them(tiny_world: World) -> None:
    engine = begun(tiny_world, 3, "worldplay")
    engine.step(commands(engine, [AHEAD], [1]), rows=[1])
    entries = engine.explain()["entries"]
    assert entries.shape[0] == 3
    assert (entries[1] >= 0).any()
    assert (entries[[0, 2]] == -1).all()


def test_which_views_were_rendered_is_told(rendered_world: World) -> None:
    engine = begun(rendered_world, 2, "worldplay")
    assert (engine.explain()["rendered"] == -1).all()
    for _ in range(2):
        engine.step(commands(engine, [TURN, TURN], [0, 1]))
    told = engine.explain()["rendered"]
    assert (told.amax(1) >= 0).all()
    assert (told <= 1).all()  # the start view and the first chunk were all there was
    engine.reset(seeds=[5, 6], starts=[0, 1], mask=torch.tensor([True, False]))
    assert (engine.explain()["rendered"][0] == -1).all()
    assert (engine.explain()["rendered"][1] == told[1]).all()


def test_clips_whose_signals_do_not_fit_are_refused_as_a_whole(tiny_world: World) -> None:
    engine = begun(tiny_world, 1, "worldplay")
    before = engine.clone_state([0])
    frames = torch.zeros(1, 1, tiny_world.spec.height, tiny_world.spec.width, 3, dtype=torch.uint8)
    c2w, keys = torch.eye(4, dtype=torch.float64)[None, None], torch.zeros(1, 2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="a clip's signals"):
        engine.resume(frames, {"c2w": c2w, "keys": keys}, seeds=[0])
    after = engine.clone_state([0])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rows_and_commands_are_checked_before_anything_changes(tiny_world: World) -> None:
    engine = begun(tiny_world, 2, "worldplay")
    before = engine.clone_state([0, 1])
    good = commands(engine, [AHEAD, AHEAD], [0, 1])
    for rows in ([0, 0], [0, 2], []):
        with pytest.raises(ValueError, match="must be different ones"):
            engine.step(good, rows=rows)
    with pytest.raises(ValueError, match="commands lack 'keys'"):
        engine.step(Track(c2w=good["c2w"]))
    with pytest.raises(ValueError, match=r"'keys' is torch.int64 \(2, 4, 2\), expected int64 \(1, 4, 2\)"):
        engine.step(good, rows=[0])
    with pytest.raises(ValueError, match="'c2w' holds NaN"):
        engine.step(Track(keys=good["keys"], c2w=good["c2w"] * torch.nan))
    with pytest.raises(ValueError, match=r"'keys' must lie within 0\.\.8"):
        engine.step(Track(keys=good["keys"] + 8, c2w=good["c2w"]))
    after = engine.clone_state([0, 1])
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_what_is_observed_is_remembered_as_if_it_had_been_made(tiny_world: World, policy: str) -> None:
    """Imagined frames, observed by another engine, leave it about where the first one is."""
    imagining, observing = begun(tiny_world, 2, policy), begun(tiny_world, 2, policy)
    for keys in (AHEAD, TURN, TURN):
        asked = commands(imagining, [keys, keys], [0, 1])
        made = imagining.step(asked)
        observing.observe(made.frames, asked)
        torch.testing.assert_close(imagining.c2w, observing.c2w)
        assert torch.equal(made.frames[:, -1], observing.clone_state([0, 1])["frames"])
    assert torch.equal(imagining.memory_chunks, observing.memory_chunks)
    next_one = commands(observing, [AHEAD, AHEAD], [0, 1])
    assert observing.step(next_one).frames.shape == imagining.step(next_one).frames.shape


def test_an_observed_chunk_is_encoded_as_the_clip_it_continues(tiny_world: World) -> None:
    """Behind the same past, the latents of a chunk are those of the whole clip, as far as the VAE decodes what it
    encodes.
    """
    chunk = tiny_world.spec.chunk_latents
    generator = torch.Generator().manual_seed(0)
    size = (1, frames_of(1 + chunk), tiny_world.spec.height, tiny_world.spec.width, 3)
    frames = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    whole, pieces = (Engine(tiny_world, 1) for _ in range(2))
    c2w = torch.eye(4, dtype=torch.float64).repeat(1, 1 + chunk, 1, 1)
    whole.resume(frames, {"c2w": c2w}, seeds=[0])
    pieces.resume(frames[:, :1], {"c2w": c2w[:, :1]}, seeds=[0])
    still = torch.zeros(1, chunk, 2, dtype=torch.long)
    pieces.observe(frames[:, 1:], Track(keys=still, c2w=c2w[:, 1:]))
    wanted, found = (engine.newest_latents()[0] for engine in (whole, pieces))
    torch.testing.assert_close(found[-1], wanted[-1], atol=1e-4, rtol=1e-4)  # beyond what the encoder looks back at
    with pytest.raises(ValueError, match="a chunk is uint8"):
        pieces.observe(frames[:, 2:], Track(keys=still, c2w=c2w[:, 1:]))


def test_planning_forks_imagine_and_the_trunk_observes(tiny_world: World) -> None:
    engine = begun(tiny_world, 4, "worldplay")
    engine.step(commands(engine, [AHEAD] * 4, [0, 1, 2, 3]))
    engine.fork([0, 0, 0], [1, 2, 3], reseed=[7, 8, 9])
    engine.step(commands(engine, [AHEAD, TURN, TURN], [1, 2, 3]), rows=[1, 2, 3])
    real = torch.zeros(1, tiny_world.spec.chunk_frames, tiny_world.spec.height, tiny_world.spec.width, 3).byte()
    engine.observe(real, commands(engine, [AHEAD], [0]), rows=[0])
    assert not engine.clone_state([0])["frames"].any()
    assert engine.memory_chunks.tolist() == [3] * 4


def test_a_rolling_window_advances_as_a_whole(tiny_world: World) -> None:
    sampler = replace(tiny_world.config.sampler, rolling=True, stochastic=True)
    engine = Engine(tiny_world, 2, sampler=sampler)
    engine.reset(seeds=[0, 1], starts=[0, 1])
    with pytest.raises(ValueError, match="rows of a rolling window advance together"):
        engine.step(commands(engine, [AHEAD], [0]), rows=[0])
    asked = commands(engine, [AHEAD, TURN], [0, 1])
    real = torch.zeros(2, tiny_world.spec.chunk_frames, tiny_world.spec.height, tiny_world.spec.width, 3).byte()
    engine.observe(real, asked)
    assert engine.step(asked).frames.shape == real.shape  # a window of chunks after a single one
