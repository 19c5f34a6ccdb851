"""Memory of segments: the chunks' own is the engine's, the teacher's is the same without the segment."""

from dataclasses import replace

import pytest
import torch

from worldenv.data.dataset import LatentDataset
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.geometry.action import camera_to_c2w, keys_to_camera
from worldenv.memory.config import MemoryConfig
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.segments import assert_aligned, joint_index
from worldenv.training.stages.teacher import TeacherStage
from worldenv.world.world import World

LATENTS = 45
MEMORY = MemoryConfig(temporal_latents=8, num_points=1024)


def walks(world: World, count: int = 4, *, length: int = LATENTS, memory_from: int = 25) -> LatentDataset:
    """Random latents along random walks, so that every latent can be told from every other."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 5, (count, length, 2), generator=generator)
    keys[:, 0] = 0
    start = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    moved = camera_to_c2w(keys_to_camera(keys[:, 1:]), start, world.spec.steps)
    latents = torch.randn(count, length, *world.latent_shape, generator=generator)
    need = torch.zeros(count, length)
    need[:, memory_from:] = 1.0
    track = Track(keys=keys, c2w=torch.cat([start[:, None], moved], 1))
    return LatentDataset(latents.half(), track, need)


@pytest.fixture
def world(tiny_world: World) -> World:
    return World(replace(tiny_world.config, memory=MEMORY), vae=tiny_world.vae, dit=tiny_world.dit)


def make_stage(world: World, **config: object) -> TeacherStage:
    denoise = DenoiseConfig(**{"num_chunks": 3, **config})  # type: ignore[arg-type]
    return TeacherStage(Material(world, denoise, 4, data=walks(world)))


def test_the_union_leaves_out_the_segment_and_keeps_the_order_of_time() -> None:
    chosen = [torch.tensor([[-1, 3, 9, 10], [0, 1, 2, 3]]), torch.tensor([[1, 10, 11, 12], [2, 3, 4, 5]])]
    index = joint_index(chosen, torch.tensor([11, 4]))
    assert index.tolist() == [[1, 3, 9, 10], [0, 1, 2, 3]]
    assert joint_index(chosen, torch.tensor([11, 2])).tolist() == [[1, 3, 9, 10], [-1, -1, 0, 1]]


def test_a_teacher_that_sees_other_latents_is_not_aligned() -> None:
    chosen = torch.tensor([[-1, 1, 2, 3]]), torch.tensor([[1, 2, 5, 6]])
    first = torch.tensor([5])
    assert_aligned(chosen, torch.tensor([[-1, 1, 2, 3]]), first)
    for wrong in ([1, 2, 3, 5], [-1, -1, 1, 2], [0, 1, 2, 3], [2, 1, 3, -1]):
        with pytest.raises(AssertionError, match="the teacher of row 0 sees"):
            assert_aligned(chosen, torch.tensor([wrong]), first)


def test_every_chunk_sees_what_the_engine_would_show_it(world: World) -> None:
    """The engine, stepped along the same path from the same history, selects the same latents for every chunk."""
    stage, clips, entry = make_stage(world), torch.arange(4), 7
    zeros = torch.zeros(4, dtype=torch.long)
    segment = stage.segments.cut(stage.material.data, clips, zeros + entry, zeros, [0] * 4)
    first = int(segment.first[0])
    assert first == 1 + 4 * (entry - 1)
    engine = Engine(world, 4, decode=False)
    data = stage.material.data
    path = {"c2w": data.track["c2w"][:, :first]}
    engine.begin(torch.arange(4), data.latents[:, :first].float(), path, [0] * 4)
    for i, chosen in enumerate(segment.chosen):
        engine.generate(segment.track.part(slice(4 * i, 4 * i + 4)))
        assert engine.history.selection is not None
        assert torch.equal(engine.history.selection.index, chosen)
        assert int(chosen.max()) == first + 4 * i - 1


@pytest.mark.parametrize("seed", range(3))
def test_segments_lie_in_their_clips_and_need_memory_if_asked(world: World, seed: int) -> None:
    stage = make_stage(world, necessary=1.0)
    generator = torch.Generator().manual_seed(seed)
    _, entries = stage.segments.places(generator, None)
    last = (LATENTS - 1) // 4 - 3 + 1
    assert ((entries >= 1) & (entries <= last)).all()
    assert (entries + 2 >= 7).all(), "each holds one of the chunks that need memory, entries 7 and on"
    _, entries = stage.segments.places(generator, 2)
    assert ((entries >= 1) & (entries <= 3)).all(), "at most two chunks of history"
    segment = stage.segments.draw(generator)
    assert not segment.latents.isnan().any()
    for row, first in enumerate(segment.first.tolist()):
        assert segment.bank.latents[row, first:].isnan().all(), "what is to be made is not there"
        assert not segment.bank.latents[row, :first].isnan().any()


def test_nothing_of_the_segment_reaches_the_teacher_through_its_context(world: World) -> None:
    """Its output depends on the latents of C^tea, on every one of them, and on nothing else in the history."""
    stage = make_stage(world)
    segment = stage.segments.draw(torch.Generator().manual_seed(1))
    assert stage.segments.generate_joint(stage.module, segment, torch.Generator()).isfinite().all(), "no NaN came in"
    latents = segment.bank.latents.nan_to_num(0.5).requires_grad_()
    segment = replace(segment, bank=replace(segment.bank, latents=latents))
    prepared = stage.segments.prepare_joint(stage.module, segment)
    velocity = prepared.velocity(segment.latents, torch.full(segment.latents.shape[:2], 500.0))
    (gradient,) = torch.autograd.grad(velocity.square().sum(), latents)
    index = joint_index(segment.chosen, segment.first)
    for row in range(len(index)):
        reached = gradient[row].abs().sum((1, 2, 3)).nonzero()[:, 0].tolist()
        assert reached == [i for i in index[row].tolist() if i >= 0]
        assert max(reached) == int(segment.first[row]) - 1


def test_chunks_of_a_segment_see_each_other_both_ways(world: World) -> None:
    stage = make_stage(world)
    segment = stage.segments.draw(torch.Generator().manual_seed(1))
    prepared = stage.segments.prepare_joint(stage.module, segment)
    noisy = segment.latents.clone().requires_grad_()
    velocity = prepared.velocity(noisy, torch.full(noisy.shape[:2], 500.0))
    for part, other in ((slice(0, 4), slice(8, 12)), (slice(8, 12), slice(0, 4))):
        (gradient,) = torch.autograd.grad(velocity[:, part].square().sum(), noisy, retain_graph=True)
        assert (gradient[:, other].abs().sum((1, 2, 3, 4)) > 0).all()


def test_clips_too_short_for_a_segment_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="record 49 latents or more"):
        make_stage(world, num_chunks=12)


def test_a_misaligned_teacher_sees_single_latents(world: World) -> None:
    """Recent latents, and of the older ones four that look where the segment looks, out of three different chunks."""
    stage = make_stage(world, teacher_memory="per_latent", policies=(("worldplay", 1.0),))
    c2w = torch.eye(4, dtype=torch.float64).repeat(4, LATENTS, 1, 1)
    c2w[:, :25, [0, 2], [0, 2]] = -1  # all older ones look back
    alike = [2, 7, 8, 13]
    c2w[:, alike] = torch.eye(4, dtype=torch.float64)
    data = stage.material.data
    data = replace(data, track=Track(keys=data.track["keys"], c2w=c2w))
    clips, zeros = torch.arange(4), torch.zeros(4, dtype=torch.long)
    segment = stage.segments.cut(data, clips, zeros + 9, zeros, [0] * 4)
    assert segment.joint.tolist() == [[*alike, *range(25, 33)]] * 4
    assert all(index.tolist() != segment.joint.tolist() for index in segment.chosen), "the student's is by chunks"
    assert stage.segments.generate_joint(stage.module, segment, torch.Generator()).isfinite().all()
