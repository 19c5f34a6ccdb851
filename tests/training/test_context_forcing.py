"""Algorithm 1: what the student sees, what teacher and critic see, where gradients go."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.test_segments import MEMORY, walks
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.engine.rollout import Prepared, prepare
from worldenv.memory.context import Context
from worldenv.models.dit import WorldDiT
from worldenv.training import segments as joint
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.context_forcing import ContextForcingConfig, ContextForcingStage
from worldenv.world.world import World

CHUNKS = 4


def make_stage(tiny_world: World, **changes: Any) -> ContextForcingStage:
    """A student, a teacher and a critic that all differ."""
    sampler = SamplerConfig(num_steps=4, shift=2.0, stochastic=True)
    dits = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        dits.append(WorldDiT(tiny_world.dit.config))
        for parameter in dits[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    world = World(replace(tiny_world.config, memory=MEMORY, sampler=sampler), vae=tiny_world.vae, dit=dits[0])
    material = Material(world, DenoiseConfig(num_chunks=CHUNKS), 4, data=walks(world))
    stage = ContextForcingStage(material, ContextForcingConfig(**changes), teacher=dits[1])
    assert all(torch.equal(a, b) for a, b in zip(stage.fake.parameters(), dits[1].parameters(), strict=True))
    stage.fake.load_state_dict(dits[2].state_dict())
    stage.begin(10**6)
    return stage


class Spy:
    """Notes every context that a network is given, and every noisy chunk."""

    def __init__(self, stage: ContextForcingStage, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {id(stage.module): "student", id(stage.teacher): "teacher", id(stage.fake): "critic"}
        self.contexts: dict[str, list[tuple[Context, torch.Tensor]]] = {name: [] for name in names.values()}
        self.positions: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}
        self.timesteps: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}
        self.places: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}
        self.noisy: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}

        def spying(dit: WorldDiT, context: Context, **rest: Any) -> Prepared:
            self.contexts[names[id(dit)]].append((context, rest["track"]["c2w"]))
            return prepare(dit, context, **rest)

        monkeypatch.setattr(joint, "prepare", spying)
        prefill, forward = WorldDiT.prefill, WorldDiT.forward

        def spying_prefill(dit: WorldDiT, latents: torch.Tensor, cond: Any, **rest: Any) -> None:
            self.positions[names[id(dit)]].append(cond.positions)
            self.timesteps[names[id(dit)]].append(cond.timesteps)
            prefill(dit, latents, cond, **rest)

        def spying_forward(dit: WorldDiT, latents: torch.Tensor, cond: Any, **rest: Any) -> torch.Tensor:
            self.noisy[names[id(dit)]].append(cond.timesteps)
            self.places[names[id(dit)]].append(cond.positions)
            return forward(dit, latents, cond, **rest)

        monkeypatch.setattr(WorldDiT, "prefill", spying_prefill)
        monkeypatch.setattr(WorldDiT, "forward", spying_forward)


Member = tuple[int, bytes, bytes, float]


def members(context: Context, timesteps: torch.Tensor, row: int) -> list[Member]:
    """What enters a network in order of slots: (chunk, picture, pose, noise label) of every filled slot."""
    return [
        (
            int(context.entry[row, s]),
            context.latents[row, s].numpy().tobytes(),
            context.track["c2w"][row, s].numpy().tobytes(),
            float(timesteps[row, s]),
        )
        for s in range(context.entry.shape[1])
        if context.entry[row, s] >= 0
    ]


def test_the_teachers_memory_is_the_students_without_the_segment(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Element by element: same chunks, pictures, poses, noise labels, in order of time; all of them recorded."""
    stage = make_stage(tiny_world)
    spy = Spy(stage, monkeypatch)
    segment = stage.segments.draw(torch.Generator().manual_seed(7))
    monkeypatch.setattr(stage.segments, "draw", lambda *_, **__: segment)
    stage.loss(torch.Generator().manual_seed(0))
    assert len(spy.contexts["student"]) == CHUNKS
    grown = 0
    for row, first in enumerate(segment.first.tolist()):
        entry = (first + 3) // 4
        seen: set[Member] = set()
        for (context, _), timesteps in zip(spy.contexts["student"], spy.timesteps["student"], strict=True):
            chunk = members(context, timesteps, row)
            assert len(set(chunk)) == len(chunk)
            assert not context.latents[row].isnan().any()
            seen |= set(chunk)
        past = {member for member in seen if member[0] < entry}
        made = seen - past
        assert {member[0] for member in made} == {entry, entry + 1, entry + 2}, "its own chunks are in its memory"
        truth = {
            (
                int(stage.material.layout.entry_of(torch.tensor(i))),
                segment.bank.latents[row, i].numpy().tobytes(),
                segment.bank.c2w[row, i].numpy().tobytes(),
                14.0,
            )
            for i in range(first)
        }
        assert past <= truth, "the history is the recorded one, clean, under its label"
        for name in ("teacher", "critic"):
            for (context, c2w), timesteps, positions in zip(
                spy.contexts[name], spy.timesteps[name], spy.positions[name], strict=True
            ):
                given = members(context, timesteps, row)
                assert len(given) == len(set(given))
                assert set(given) == past
                assert [m[0] for m in given] == sorted(m[0] for m in given), "in order of time"
                slots = context.entry.shape[1]
                assert positions[row].tolist() == list(range(slots)), "reframed: the newest right before the segment"
                assert (context.entry[row, slots - len(given) :] >= 0).all()
                assert torch.equal(c2w[row], segment.track["c2w"][row]), "and it knows all poses of the segment"
        grown += len(past)
    assert grown > 4 * 8, "somebody looked something up"


def test_what_is_near_in_time_is_as_near_for_the_teacher(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are numbered, noisy latents follow: recent ones are their age away from what is made, for every network."""
    stage = make_stage(tiny_world)
    spy = Spy(stage, monkeypatch)
    segment = stage.segments.draw(torch.Generator().manual_seed(7))
    monkeypatch.setattr(stage.segments, "draw", lambda *_, **__: segment)
    stage.loss(torch.Generator().manual_seed(0))
    recent, compared = MEMORY.temporal_latents, 0
    for name, indices in (("student", segment.chosen), ("teacher", [segment.joint]), ("critic", [segment.joint])):
        for chunk, (index, placed) in enumerate(zip(indices, spy.positions[name], strict=False)):
            slots = index.shape[1]
            assert placed.tolist() == [list(range(slots))] * len(index)
            coming = [p for p in spy.places[name] if p[0, 0] == slots]
            assert coming
            assert all(p.diff(dim=1).eq(1).all() for p in coming)
            for row, first in enumerate((segment.first + 4 * chunk).tolist()):
                for slot, i in enumerate(index[row].tolist()):
                    if max(0, first - recent) <= i < first:
                        assert slots - slot == first - i
                        compared += 1
    assert compared > 3 * 4 * recent // 2


def test_one_level_for_a_clip_the_same_for_both_scores(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage(tiny_world, score_draws=3)
    spy = Spy(stage, monkeypatch)
    stage.loss(torch.Generator().manual_seed(0))
    real, fake = spy.noisy["teacher"][0], spy.noisy["critic"][0]
    assert torch.equal(real, fake)
    assert real.shape == (12, 16)
    assert (real == real[:, :1]).all()
    assert len(set(real[:, 0].tolist())) > 6
    assert ((real >= 20) & (real <= 980)).all()


def test_chunks_leave_at_steps_of_their_own_or_together(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    exits = {}
    for each in (True, False):
        stage = make_stage(tiny_world, exit_per_chunk=each)
        exits[each] = [stage.chunkwise.draw_exits(torch.Generator().manual_seed(s)) for s in range(20)]
    assert all(len(e) == CHUNKS for e in exits[True] + exits[False])
    assert {s for e in exits[True] for s in e} == {0, 1, 2, 3} == {s for e in exits[False] for s in e}
    assert any(len(set(e)) > 1 for e in exits[True])
    assert all(len(set(e)) == 1 for e in exits[False])
    spy = Spy(stage, monkeypatch)
    stage.chunkwise.rollout(
        stage.segments.draw(torch.Generator().manual_seed(0)), torch.Generator(), exits=[0, 3, 1, 0]
    )
    assert len(spy.noisy["student"]) == 1 + 4 + 2 + 1


def test_gradients_flow_through_the_last_evaluation_of_each_chunk(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One evaluation per chunk has gradients, and none of them come from another chunk's pictures or a context."""
    stage = make_stage(tiny_world)
    stage.module.requires_grad_(True)
    enabled: list[bool] = []
    forward, prefill = WorldDiT.forward, WorldDiT.prefill

    def noting(dit: WorldDiT, *args: Any, **rest: Any) -> torch.Tensor:
        enabled.append(torch.is_grad_enabled())
        return forward(dit, *args, **rest)

    def without(dit: WorldDiT, *args: Any, **rest: Any) -> None:
        assert not torch.is_grad_enabled(), "contexts are encoded without gradients"
        prefill(dit, *args, **rest)

    monkeypatch.setattr(WorldDiT, "forward", noting)
    monkeypatch.setattr(WorldDiT, "prefill", without)
    segment = stage.segments.draw(torch.Generator().manual_seed(7))
    exits = [2, 0, 3, 1]
    x = stage.chunkwise.rollout(segment, torch.Generator().manual_seed(0), exits=exits)
    assert enabled == [step == leave for leave in exits for step in range(leave + 1)]
    assert not segment.bank.latents.requires_grad
    x.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.module.blocks.parameters())


def check_losses_reach_their_own_network(stage: ContextForcingStage) -> None:
    """Let student and critic learn in turn; the other networks of the stage get no gradient."""
    stage.module.requires_grad_(True)
    networks = {"student": stage.module, "critic": stage.fake, "teacher": stage.teacher}
    for mine, loss in (("student", stage.loss), ("critic", stage.critic_loss)):
        value, _ = loss(torch.Generator().manual_seed(0))
        assert value.isfinite()
        value.backward()
        for name, network in networks.items():
            moved = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
            assert moved == (name == mine), (name, mine)
            network.zero_grad(set_to_none=True)


def test_losses_reach_their_own_network_only(tiny_world: World) -> None:
    check_losses_reach_their_own_network(make_stage(tiny_world))


def test_equal_scores_leave_the_student_alone(tiny_world: World) -> None:
    stage = make_stage(tiny_world)
    stage.fake.load_state_dict(stage.teacher.state_dict())
    loss, figures = stage.loss(torch.Generator().manual_seed(0))
    assert (loss.item(), figures["gradient"]) == (0, 0)


def test_histories_grow(tiny_world: World) -> None:
    config = ContextForcingConfig(max_history=6, history_steps=10)
    assert [config.history(step) for step in (0, 5, 10, 500)] == [0, 3, 6, 6]
    stage = make_stage(tiny_world, max_history=6, history_steps=10)
    for step, longest in ((0, 0), (5, 3)):
        stage.begin(step)
        found = {
            int(n)
            for s in range(8)
            for n in stage.segments.draw(torch.Generator().manual_seed(s), longest=stage.chunkwise.longest).first
        }
        assert found <= {1 + 4 * i for i in range(longest + 1)}
        assert max(found) == 1 + 4 * longest


def test_the_gates_measure_generated_against_recorded_latents(tiny_world: World) -> None:
    stage = make_stage(tiny_world)
    segment = stage.segments.draw(torch.Generator().manual_seed(0))
    zero = torch.zeros_like(segment.latents)
    same = stage._gates(segment, segment.latents, zero, torch.Generator().manual_seed(0))
    assert (same["contrast"], same["motion"], same["gradient"]) == (1, 1, 0)
    halved = stage._gates(segment, 0.5 * segment.latents, zero + 2, torch.Generator().manual_seed(0))
    assert (halved["contrast"], halved["motion"], halved["gradient"]) == pytest.approx((0.5, 0.5, 2))
    assert halved["teacher_loss"] == same["teacher_loss"], "the teacher's error is on recorded segments"


def test_self_rolled_histories_are_the_students_own(tiny_world: World) -> None:
    """All but the start view is made anew, whatever was recorded there; the segment is still to be made."""
    stage = make_stage(tiny_world, source="self", max_history=3)
    stage.material.config = replace(stage.material.config, necessary=0.0)
    recorded = stage.segments.draw(torch.Generator().manual_seed(3), longest=3)
    assert len(set(recorded.first.tolist())) > 1, "histories of several lengths"
    before = stage.material.data.latents.clone()
    segment = stage.chunkwise.after_history(torch.Generator().manual_seed(3))
    stage.material.data.latents[:, 1:] = 0  # nothing but the start view is read
    again = stage.chunkwise.after_history(torch.Generator().manual_seed(3))
    assert torch.equal(again.first, recorded.first)
    for row, first in enumerate(recorded.first.tolist()):
        made, true = segment.bank.latents[row], recorded.bank.latents[row]
        assert torch.equal(made[0], true[0])
        assert made[:first].isfinite().all()
        assert made[first:].isnan().all()
        assert (made[1:first] != true[1:first]).flatten(1).any(1).all()
        assert torch.equal(again.bank.latents[row, :first], made[:first])
    stage.material.data.latents.copy_(before)
    loss, _ = stage.loss(torch.Generator().manual_seed(3))
    assert loss.isfinite()
