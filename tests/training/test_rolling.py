"""The student's rolling rollout: the engine's windows, each chunk scored once, knowing its action then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.test_context_forcing import check_losses_reach_their_own_network
from tests.training.test_segments import MEMORY, walks
from worldenv.base.rng import derive_seed
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.geometry.action import keys_to_label
from worldenv.models.dit import WorldDiT
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.context_forcing import ContextForcingConfig, ContextForcingStage
from worldenv.training.stages.rolling import RollingConfig, rolling_stage
from worldenv.world.world import World

CHUNKS, STEPS = 4, 4


def make_stage(tiny_world: World, *, batch: int = 4, chunks: int = CHUNKS, **rolling: Any) -> ContextForcingStage:
    """A student, a teacher and a critic that all differ."""
    sampler = SamplerConfig(num_steps=STEPS, stochastic=True, rolling=True)
    dits = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        dits.append(WorldDiT(tiny_world.dit.config))
        for parameter in dits[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    world = World(replace(tiny_world.config, memory=MEMORY, sampler=sampler), vae=tiny_world.vae, dit=dits[0])
    denoise = DenoiseConfig(num_chunks=chunks, policies=(("recent", 1.0),))
    material = Material(world, denoise, batch, data=walks(world))
    stage = rolling_stage(material, ContextForcingConfig(), RollingConfig(**rolling), teacher=dits[1])
    stage.fake.load_state_dict(dits[2].state_dict())
    stage.begin(10**6)
    return stage


class Spy:
    """Notes labels, levels and gradients of the student's evaluations, and what they return."""

    def __init__(self, stage: ContextForcingStage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels: list[Tensor] = []
        self.timesteps: list[Tensor] = []
        self.enabled: list[bool] = []
        forward = WorldDiT.forward

        def spying(dit: WorldDiT, latents: Tensor, cond: Any, **rest: Any) -> Tensor:
            if dit is stage.module:
                self.labels.append(cond.labels)
                self.timesteps.append(cond.timesteps)
                self.enabled.append(torch.is_grad_enabled())
            return forward(dit, latents, cond, **rest)

        monkeypatch.setattr(WorldDiT, "forward", spying)


def test_windows_are_the_engines(tiny_world: World) -> None:
    """On the same noise, where an action goes on, the rollout finishes the chunks that the engine makes."""
    stage = make_stage(tiny_world, batch=1)
    segment = stage.segments.cut(
        stage.material.data, torch.tensor([2]), torch.tensor([3]), torch.zeros(1, dtype=torch.long), [0]
    )
    data, first = stage.material.data, int(segment.first[0])
    track = Track(keys=segment.track["keys"][:, 3:4].expand(-1, 16, -1), c2w=_straight(segment.track["c2w"]))
    segment = replace(segment, track=track)
    for name, signal in track.items():
        segment.bank.track[name][:, first : first + 16] = signal
    with torch.no_grad():  # turn 2: windows 2 and 6 are scored, so that all are made
        stage.rollouts.roll(segment, torch.Generator().manual_seed(derive_seed(5, "noise")), turn=2, held=True)
    engine = Engine(stage.material.world, 1, memory=replace(MEMORY, policy="recent"), decode=False)
    path = {"c2w": data.track["c2w"][2:3, :first]}
    engine.begin(torch.tensor([0]), data.latents[2:3, :first].float(), path, [5])
    for i in range(CHUNKS):
        engine.generate(track.part(slice(4 * i, 4 * i + 4)))
        made = segment.bank.latents[:, first + 4 * i : first + 4 * i + 4]
        torch.testing.assert_close(made, engine.newest_latents())


@pytest.mark.parametrize("chunks", range(2, 7))
def test_a_preview_shows_what_left_the_windows_in_front(tiny_world: World, chunks: int) -> None:
    stage = make_stage(tiny_world, chunks=chunks)
    segment = stage.segments.draw(torch.Generator().manual_seed(7), ahead=STEPS)
    with torch.no_grad():
        made = stage.rollouts.finished(segment, torch.Generator().manual_seed(0))
    assert made.shape == segment.latents.shape
    assert made.isfinite().all(), "what was not made is NaN"


def _straight(c2w: Tensor) -> Tensor:
    """The first pose, and equal steps ahead from it."""
    step = torch.eye(4, dtype=torch.float64)
    step[2, 3] = 0.25
    return torch.stack([c2w[:, 0] @ torch.linalg.matrix_power(step, i) for i in range(c2w.shape[1])], 1)


@pytest.mark.parametrize("turn", range(STEPS))
def test_every_chunk_is_scored_once(tiny_world: World, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """Windows turn, turn + L, ... alone have gradients; they cover the segment, at mixed levels."""
    stage = make_stage(tiny_world, chunks=6)
    stage.module.requires_grad_(True)
    spy = Spy(stage, monkeypatch)
    segment = stage.segments.draw(torch.Generator().manual_seed(7), ahead=STEPS)
    x = stage.rollouts.roll(segment, torch.Generator().manual_seed(0), turn=turn, held=False)
    assert x.shape == segment.latents.shape
    assert spy.enabled == [n % STEPS == turn for n in range(len(spy.enabled))]
    scored = torch.cat([t for t, e in zip(spy.timesteps, spy.enabled, strict=True) if e], 1)
    assert 6 <= scored.shape[1] // 4 < 6 + STEPS
    assert spy.enabled[-1], "nothing is made that is not scored"
    assert len(scored[0].unique()) == STEPS
    x.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.module.blocks.parameters())
    assert not segment.bank.latents.requires_grad


def test_scored_windows_know_every_action_and_others_hold_the_front(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(tiny_world)
    spy = Spy(stage, monkeypatch)
    segment = stage.segments.draw(torch.Generator().manual_seed(7), ahead=STEPS)
    own = keys_to_label(segment.track["keys"])
    said = torch.cat([own, own[:, -1:].expand(-1, 12)], 1)
    for held in (False, True):
        spy.labels.clear()
        stage.rollouts.roll(segment, torch.Generator().manual_seed(0), turn=1, held=held)
        for number, labels in enumerate(spy.labels):
            start, known = 4 * max(0, number + 1 - STEPS), 4 if held and number % STEPS != 1 else 16
            wanted = said[:, start : start + 16].clone()
            wanted[:, known:] = wanted[:, known - 1 : known]
            assert torch.equal(labels, wanted[:, : labels.shape[1]])


def test_shares_decide_which_rollout_it_is(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for share, widths in ((0.0, {4}), (1.0, {4, 8, 12, 16})):
        stage = make_stage(tiny_world, batch=1, share=share)
        spy = Spy(stage, monkeypatch)
        for seed in range(2):
            with torch.no_grad():
                segment, x = stage.rollouts.draw(torch.Generator().manual_seed(seed))
            assert x.shape == segment.latents.shape
        assert {t.shape[1] for t in spy.timesteps} <= widths
        assert (8 in {t.shape[1] for t in spy.timesteps}) == (share == 1)


def test_losses_reach_their_own_network_only(tiny_world: World) -> None:
    check_losses_reach_their_own_network(make_stage(tiny_world, share=1.0))


def test_the_teacher_sees_what_the_windows_saw_of_the_past(tiny_world: World) -> None:
    """A window's context serves all its chunks: their poses choose it, and C^tea is the union of all windows'."""
    stage = make_stage(tiny_world)
    asked: list[int] = []
    choose = stage.segments.chunks.choose

    def noting(bank: Any, track: Track, pick: Tensor, seeds: list[int]) -> Tensor:
        asked.append(track.num_latents)
        return choose(bank, track, pick, seeds)

    stage.segments.chunks.choose = noting  # type: ignore[method-assign]
    stage.segments.draw(torch.Generator().manual_seed(0), ahead=STEPS)
    assert asked == [16, 12, 8, 4], "as far as the segment goes"
