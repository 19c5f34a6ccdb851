"""A rolling window in the engine: what it sees, what it does when the action changes, rows, clones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from tests.engine.test_engine import begun, commands, walk
from worldenv.bodies.camera import press
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.engine.window import hold_action
from worldenv.memory.config import with_policy
from worldenv.models.dit import WorldDiT
from worldenv.world.world import World

STEPS, CHUNK = 4, 4
AHEAD, TURN = (1, 0), (0, 1)


def rolling(policy: Literal["hold", "reset"] = "hold", num_steps: int = STEPS) -> SamplerConfig:
    return SamplerConfig(num_steps=num_steps, stochastic=True, rolling=True, lookahead_policy=policy)


def make(world: World, seeds: list[int], policy: Literal["hold", "reset"] = "hold", **options: Any) -> Engine:
    return begun(world, seeds, sampler=rolling(policy), **options)


def generate(engine: Engine, *keys: tuple[int, int]) -> Tensor:
    """Step latents with these keys, one pair per env, or one for all."""
    return engine.generate(commands(engine, list(keys) * (engine.num_envs if len(keys) == 1 else 1)))


class Passes:
    """Notes what enters every evaluation of the transformer, and the cache's context before and after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels: list[Tensor] = []
        self.timesteps: list[Tensor] = []
        forward = WorldDiT.forward

        def spying(dit: WorldDiT, latents: Tensor, cond: Any, **rest: Any) -> Tensor:
            cache = rest["cache"]
            context = cache.buffer[..., : cache.length, :].clone()
            result = forward(dit, latents, cond, **rest)
            assert torch.equal(context, cache.buffer[..., : cache.length, :]), "the window only reads the context"
            self.labels.append(cond.labels)
            self.timesteps.append(cond.timesteps)
            return result

        monkeypatch.setattr(WorldDiT, "forward", spying)

    def count(self) -> int:
        number = len(self.labels)
        self.labels.clear()
        self.timesteps.clear()
        return number


@pytest.mark.parametrize("memory", ["worldplay", "worldscape"])
def test_one_chunk_per_pass_after_the_ramp_up(tiny_world: World, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    engine = make(tiny_world, [1, 2], memory=with_policy(tiny_world.config.memory, memory))
    passes, counts = Passes(monkeypatch), []
    for keys in (AHEAD, AHEAD, TURN, AHEAD, AHEAD, AHEAD):
        assert generate(engine, keys).shape == (2, CHUNK, *tiny_world.latent_shape)
        counts.append(passes.count())
    assert counts == [STEPS, 1, 1, 1, 1, 1]
    assert engine._state.bank.length.tolist() == [25, 25]
    assert engine.memory_chunks.tolist() == [7, 7] or memory == "worldscape"


def test_levels_and_assumed_actions_of_the_window(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(tiny_world, [1])
    generate(engine, AHEAD)
    passes = Passes(monkeypatch)
    generate(engine, TURN)
    assert passes.labels[0].tolist() == [[1] * STEPS * CHUNK], "the newest keys, right of 9 * 0 + 1, held on"
    timesteps = passes.timesteps[0][0].view(STEPS, CHUNK)
    assert (timesteps == timesteps[:, :1]).all()
    assert (timesteps[:, 0].diff() > 0).all()
    assert timesteps[-1, 0] == 1000


def test_a_held_action_is_what_the_environment_would_command(tiny_world: World) -> None:
    codes = torch.tensor([[3, 1], [5, 0], [1, 2], [0, 3]])[:, None].expand(-1, 12, -1)
    start = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    whole = Track.join([tiny_world.spec.still(4), press(codes, start, tiny_world.spec.steps)])
    held = hold_action(whole.part(slice(4)), 1)
    torch.testing.assert_close(held["c2w"], whole["c2w"][:, 1:5])
    held = hold_action(whole.at((slice(3), slice(4))), 9)
    torch.testing.assert_close(held["c2w"], whole["c2w"][:3, 1:])
    assert torch.equal(held["keys"], codes[:3])


def test_chunks_see_each_other_both_ways(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one chunk of the window is changes all others' velocities; none of it reaches the context."""
    engine = make(tiny_world, [1])
    generate(engine, AHEAD)
    forward = WorldDiT.forward
    moved = torch.zeros(STEPS, STEPS, dtype=torch.bool)

    def probing(dit: WorldDiT, latents: Tensor, cond: Any, **rest: Any) -> Tensor:
        plain = forward(dit, latents, cond, **rest)
        for i in range(STEPS):
            other = latents.clone()
            other[:, i * CHUNK : (i + 1) * CHUNK] += 1.0
            moved[i] = (forward(dit, other, cond, **rest) - plain).abs().amax((0, 2, 3, 4)).view(STEPS, CHUNK).amin(
                1
            ) > 0
        return plain

    monkeypatch.setattr(WorldDiT, "forward", probing)
    generate(engine, AHEAD)
    assert moved.all()


def test_one_step_is_the_ordinary_path(tiny_world: World) -> None:
    sampler = rolling(num_steps=1)
    one, two = (begun(tiny_world, [3, 4], sampler=s) for s in (sampler, replace(sampler, rolling=False)))
    for keys in (AHEAD, TURN, AHEAD):
        assert torch.equal(generate(one, keys), generate(two, keys))


def test_while_nothing_changes_both_policies_are_one(tiny_world: World) -> None:
    hold, reset = (make(tiny_world, [1, 2], policy) for policy in ("hold", "reset"))  # type: ignore[arg-type]
    for _ in range(4):
        assert torch.equal(generate(hold, (5, 1)), generate(reset, (5, 1)))


def test_reset_begins_the_window_anew_and_hold_does_not(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the window had just begun: the chunk is denoised for the new action from noise on."""
    reset, anew, hold = (make(tiny_world, [1, 2], p) for p in ("reset", "hold", "hold"))  # type: ignore[arg-type]
    for engine in (reset, anew, hold):
        for _ in range(3):
            generate(engine, AHEAD)
    assert anew._state.window is not None
    anew._state.window.drop(torch.arange(2))
    passes = Passes(monkeypatch)
    found = generate(reset, TURN)
    assert {int(label) for labels in passes.labels for label in labels.flatten()} == {1}
    assert passes.count() == STEPS
    assert torch.equal(found, generate(anew, TURN))
    passes.count()
    assert not torch.equal(found, generate(hold, TURN))
    assert passes.count() == 1
    for _ in range(2):
        assert torch.equal(generate(reset, TURN), generate(anew, TURN))


@pytest.mark.parametrize("policy", ["hold", "reset"])
@pytest.mark.parametrize("memory", ["worldplay", "worldscape"])
def test_other_rows_actions_and_resets_touch_nothing(
    tiny_world: World, policy: Literal["hold", "reset"], memory: str
) -> None:
    one, two = (
        make(tiny_world, [1, 2], policy, memory=with_policy(tiny_world.config.memory, memory)) for _ in range(2)
    )
    for i, other in enumerate((AHEAD, TURN, (2, 3), (0, 4), AHEAD)):
        if i == 2:
            one.reset(seeds=[0, 77], starts=[None, 9], mask=torch.tensor([False, True]))
        a, b = generate(one, (1, 1), other), generate(two, (1, 1), AHEAD)
        assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_a_masked_reset_begins_as_a_fresh_episode_does(tiny_world: World) -> None:
    engine, fresh = make(tiny_world, [1, 2]), Engine(tiny_world, 2, sampler=rolling())
    for _ in range(3):
        generate(engine, AHEAD)
    engine.reset(seeds=[0, 77], starts=[None, 9], mask=torch.tensor([False, True]))
    fresh.reset(seeds=[5, 77], starts=[None, 9])
    for keys in (TURN, AHEAD, AHEAD):
        assert torch.equal(generate(engine, keys)[1], generate(fresh, keys)[1])


@pytest.mark.parametrize("policy", ["hold", "reset"])
def test_clones_and_forks_go_on_exactly(tiny_world: World, policy: Literal["hold", "reset"]) -> None:
    """In the middle of a window, into other rows and another engine, through a change of action."""
    engine = make(tiny_world, [1, 2, 3, 4], policy)
    for keys in (AHEAD, AHEAD, TURN):
        generate(engine, keys)
    state = engine.clone_state([0, 1])
    kept = {key: value.clone() for key, value in state.items()}
    plan = (TURN, AHEAD, AHEAD)
    wanted = [generate(engine, keys)[:2] for keys in plan]
    engine.restore_state(state, [2, 3])
    engine.restore_state(state, [0, 1])
    elsewhere = make(tiny_world, [9] * 4, policy)
    elsewhere.restore_state(state, [2, 3])
    elsewhere.fork([2, 3], [0, 1])
    for keys, latents in zip(plan, wanted, strict=True):
        for found in (generate(engine, keys), generate(elsewhere, keys)):
            assert torch.equal(found[:2], latents)
            assert torch.equal(found[2:], latents)
    assert all(torch.equal(state[key], kept[key]) for key in kept), "a clone is not written again"


def test_following_a_path_equals_stepping_along_it(tiny_world: World) -> None:
    one, two = make(tiny_world, [1]), make(tiny_world, [1])
    codes = torch.tensor([AHEAD] * 8 + [TURN] * 8)[None]
    track = press(codes, one.c2w, one.spec.steps)
    frames = one.follow(track["c2w"]).frames
    parts = [two.step(part).frames for part in track.split(4)]
    assert torch.equal(frames, torch.cat(parts, 1))


def test_rolling_worlds_step_like_others(tiny_world: World) -> None:
    world = World(
        replace(tiny_world.config, sampler=rolling()), vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts
    )
    frames = walk(begun(world, [1, 2]), 2)
    assert torch.equal(frames, walk(make(tiny_world, [1, 2]), 2)), "no argument is needed"
    assert frames.shape == (2, 2, 16, 48, 64, 3)
    spec = replace(world.config.spec, start_in_chunk=True)
    with pytest.raises(ValueError, match="stands alone"):
        Engine(World(replace(world.config, spec=spec), vae=world.vae, dit=world.dit), 1)
