"""Memory rendered into the coming view."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.engine.test_capture import recording
from tests.engine.test_engine import begun, commands, walk
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.engine.render import Renderer, fill_holes
from worldenv.engine.rollout import Rendered, generate_chunk
from worldenv.geometry.pose import look
from worldenv.memory.bank import MemoryBank
from worldenv.memory.config import MemoryConfig, RenderConfig, with_policy
from worldenv.world.world import World

POLICIES = ("worldplay", "worldscape", "none")


def memory(policy: str, **changes: object) -> MemoryConfig:
    return replace(MemoryConfig(temporal_latents=8, num_points=2048), policy=policy, **changes)  # type: ignore[arg-type]


def test_without_a_head_or_when_told_so_nothing_is_rendered(tiny_world: World, rendered_world: World) -> None:
    """To the last bit as worlds without a head, and no frames are kept."""
    plain = begun(tiny_world, [3, 4])
    off = begun(rendered_world, [3, 4], memory=replace(rendered_world.config.memory, render=False))
    assert plain.history.bank.frames is off.history.bank.frames is None
    assert torch.equal(walk(plain, 3), walk(off, 3))


def test_a_head_renders_by_default(tiny_world: World, rendered_world: World) -> None:
    assert not tiny_world.renders(MemoryConfig())
    assert rendered_world.renders(MemoryConfig())
    assert not torch.equal(walk(begun(tiny_world, [3]), 2), walk(begun(rendered_world, [3]), 2))


def test_what_cannot_be_rendered_is_refused(tiny_world: World, rendered_world: World) -> None:
    with pytest.raises(ValueError, match=r"has no depth head; train one with `worldenv train heads`"):
        Engine(tiny_world, 1, memory=MemoryConfig(render=True))
    rolling = SamplerConfig(stochastic=True, rolling=True)
    world = World(
        replace(rendered_world.config, sampler=rolling),
        vae=rendered_world.vae,
        dit=rendered_world.dit,
        heads=rendered_world.heads,
    )
    assert not world.renders(MemoryConfig())
    with pytest.raises(ValueError, match="rolling window"):
        world.renders(MemoryConfig(render=True))
    for wrong in ({"sources": 0}, {"until": -1.0}, {"known": (0.5, 0.5)}, {"sharpen": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RenderConfig(**wrong)


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_are_independent_with_rendering(rendered_world: World, policy: str) -> None:
    """In any order, beside others that reset and go elsewhere."""
    engines = [begun(rendered_world, seeds, memory=memory(policy)) for seeds in ([10, 11], [11, 10])]
    one, two = (walk(engine, 4) for engine in engines)
    assert torch.equal(one[:, 0], two[:, 1])
    other = begun(rendered_world, [10, 99], memory=memory(policy))
    for i in range(4):
        if i == 2:
            other.reset(seeds=[0, 5], starts=[None, None], mask=torch.tensor([False, True]))
        frames = other.step(commands(other, [(1, 1), (0, 2)])).frames
        assert torch.equal(frames[0], one[i, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_forks_and_restored_states_go_on_as_the_trunk(rendered_world: World, policy: str) -> None:
    engine = begun(rendered_world, [1, 2, 3], memory=memory(policy))
    walk(engine, 4)
    state = engine.clone_state([0])
    engine.fork([0], [1])
    engine.restore_state(state, [2])
    frames = walk(engine, 4)
    assert torch.equal(frames[:, 0], frames[:, 1])
    assert torch.equal(frames[:, 0], frames[:, 2])


def test_states_of_unrendered_memory_are_refused(rendered_world: World) -> None:
    engine = begun(rendered_world, [1, 2])
    off = begun(rendered_world, [1, 2], memory=replace(rendered_world.config.memory, render=False))
    for a, b in ((engine, off), (off, engine)):
        with pytest.raises(ValueError, match=r"set memory\.render alike"):
            a.restore_state(b.clone_state([0]), [1])


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_a_recorded_chunk_equals_a_computed_one(rendered_world: World, policy: str) -> None:
    plain, replayed = (begun(rendered_world, [1, 2], memory=memory(policy)) for _ in range(2))
    recorder = recording(replayed)
    for i in range(6):
        keys = [(1, i % 3), (1, 1)]
        assert torch.equal(plain.step(commands(plain, keys)).frames, replayed.step(commands(replayed, keys)).frames)
    assert len(recorder) > 0


def test_latents_are_the_same_without_decoding(rendered_world: World) -> None:
    """Frames that memory is rendered from are decoded anyway."""
    shown, hidden = (begun(rendered_world, [1, 2], decode=decode) for decode in (True, False))
    for _ in range(3):
        shown.step(commands(shown, [(1, 1)] * 2))
        made = hidden.generate(commands(hidden, [(1, 1)] * 2))
        assert torch.equal(shown.newest_latents(), made)


def test_frames_that_were_given_are_kept_as_they_are(rendered_world: World) -> None:
    engine = Engine(rendered_world, 2)
    first = engine.reset(seeds=[0, 1], starts=[5, 7])
    bank = engine.history.bank
    assert bank.frames is not None
    assert torch.equal(bank.frames[:, 0], first.frames[:, 0])
    assert bank.given.tolist() == [1, 1]
    clip = torch.randint(0, 256, (2, 33, 48, 64, 3), dtype=torch.uint8)
    path = torch.eye(4, dtype=torch.float64).repeat(2, 9, 1, 1)
    engine.resume(clip, {"c2w": path}, seeds=[0, 1])
    assert bank.given.tolist() == [9, 9]
    assert torch.equal(bank.shown(torch.tensor([[0, 4, 8]] * 2))[0], clip[:, [0, 16, 32]])
    frames = engine.step(commands(engine, [(1, 0)] * 2)).frames
    assert bank.given.tolist() == [9, 9]
    assert torch.equal(bank.shown(torch.tensor([[12]] * 2))[0][:, 0], frames[:, -1])


class Constant:
    """A transformer that would have everything 3."""

    def __init__(self, rendered: Rendered | None) -> None:
        self.rendered = rendered
        self.dit = self
        self.config, self.dtype = self, torch.float32
        self.numerics = "clean"

    def velocity(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return (x - 3) / (timesteps / 1000)[..., None, None, None]


@pytest.mark.parametrize("sampler", [SamplerConfig(), SamplerConfig(order=2), SamplerConfig(stochastic=True)])
def test_guided_samples_end_on_what_is_known(sampler: SamplerConfig) -> None:
    """Exactly where a cell is known, not at all elsewhere, nor where the noise level is below the bound."""
    latents, mask = torch.full((1, 2, 3, 4, 4), 7.0), torch.zeros(1, 2, 1, 4, 4)
    mask[:, 0, :, :2] = 1
    noise = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for until, wanted in ((0.0, 7.0), (1.1, 3.0)):
        rendered = Rendered(latents, mask, mask, until)
        made = generate_chunk(Constant(rendered), noise, sampler, renoise=lambda: noise)  # type: ignore[arg-type]
        torch.testing.assert_close(made[:, 0, :, :2], torch.full((1, 3, 2, 4), wanted), atol=1e-4, rtol=0)
        torch.testing.assert_close(made[:, 1], torch.full((1, 3, 4, 4), 3.0), atol=1e-4, rtol=0)


def test_holes_are_filled_from_around_and_nothing_else_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    colour, known = (
        torch.rand(2, 3, 3, 12, 16, generator=generator),
        torch.rand(2, 3, 12, 16, generator=generator) < 0.6,
    )
    known[0, 0], known[1, 1, :, 3:12] = False, False
    filled = fill_holes(colour * known[:, :, None], known)
    where = known[:, :, None].expand_as(colour)
    torch.testing.assert_close(filled[where], colour[where])
    some = filled[1, 1]
    assert float(some.min()) >= 0
    assert float(some.max()) <= 1
    assert float(some[:, :, 7].mean()) > 0.2, "filled, not black"
    assert not filled[0, 0].any(), "where nothing is known it stays grey"


def seen_from(*yaws_deg: float) -> MemoryBank:
    """A bank of one row whose chunks of 1 latent look into these directions, everything 3 m away."""
    count = len(yaws_deg)
    yaw = torch.deg2rad(torch.tensor(yaws_deg, dtype=torch.float64))
    c2w = look(torch.zeros(count, 3, dtype=torch.float64), yaw)[None]
    bank = MemoryBank.empty((4, 6, 8), WorldSpec().still(1), capacity=count, frame_size=(48, 64))
    track = Track(keys=torch.zeros(1, count, 2, dtype=torch.long), c2w=c2w)
    bank.append(torch.tensor([0]), torch.zeros(1, count, 4, 6, 8), track)
    frames, depth = torch.zeros(1, count, 48, 64, 3, dtype=torch.uint8), torch.full((1, count, 48, 64), 3.0)
    bank.show(torch.tensor([0]), torch.arange(count)[None], frames, depth)
    return bank


@pytest.mark.parametrize(
    ("policy", "target", "wanted"),
    [
        ("worldplay", 0.0, [0]),  # the start view shows all of it, though the policy's context lacks it
        ("none", 0.0, []),  # which one that does not look back may not use
        ("worldplay", 180.0, [2]),
        ("worldplay", 150.0, [1, 2]),  # two that show most of it together, of equals the older
        ("worldplay", 225.0, [2, 4]),
    ],
)
def test_sources_are_those_that_show_most(rendered_world: World, policy: str, target: float, wanted: list[int]) -> None:
    bank = seen_from(0.0, 90.0, 180.0, 90.0, 270.0)
    spec = replace(rendered_world.spec, chunk_latents=1)
    config = with_policy(MemoryConfig(rendering=RenderConfig(sources=2)), policy)
    renderer = Renderer(rendered_world, spec, config)
    coming = look(torch.zeros(1, 1, 3, dtype=torch.float64), torch.deg2rad(torch.tensor([[target]]).double()))
    chosen = renderer.sources(bank, torch.tensor([[-1, 1, 2, 3, 4]]), coming)
    assert [int(i) for i in chosen[0] if i >= 0] == wanted
