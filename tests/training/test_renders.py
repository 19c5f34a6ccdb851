"""Renders for training are what an engine would render, and no chunk is shown what it has yet to make."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.test_segments import LATENTS, walks
from worldenv.data.dataset import LatentDataset
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.engine.engine import Engine
from worldenv.memory.config import NEVER, MemoryConfig, RenderConfig
from worldenv.models.codec import to_frames
from worldenv.models.refine import with_inputs
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.renders import DECODED, ClipRenderer, RendersConfig, decoded_views, drawn
from worldenv.training.segments import Segment
from worldenv.training.stages.context_forcing import ContextForcingConfig, ContextForcingStage
from worldenv.training.stages.rolling import RollingConfig, rolling_stage
from worldenv.world.world import World

ENTRY = 6
"""The first chunk of the segments."""
FIRST = 1 + 4 * (ENTRY - 1)


@pytest.fixture
def world(rendered_world: World) -> World:
    """A world that takes renders in, and is not guided by them."""
    dit = with_inputs(rendered_world.dit, render_input=True)
    assert dit.render_embedding is not None
    torch.nn.init.normal_(dit.render_embedding.weight, std=0.2)
    memory = MemoryConfig(temporal_latents=8, num_points=1024, rendering=RenderConfig(until=NEVER))
    config = replace(
        rendered_world.config, dit=dit.config, memory=memory, sampler=SamplerConfig(num_steps=2, stochastic=True)
    )
    return World(config, vae=rendered_world.vae, dit=dit, heads=rendered_world.heads)


def shown(world: World) -> LatentDataset:
    """Random latents along random walks, with what they show."""
    data = walks(world)
    with torch.no_grad():
        frames = to_frames(world.vae.decode(data.latents.float()))[:, ::16]
    depth = 1 + 4 * torch.rand(frames.shape[:-1], generator=torch.Generator().manual_seed(0))
    return replace(data, frames=frames, depth=depth.half())


def make_stage(world: World, data: LatentDataset, **forcing: object) -> ContextForcingStage:
    material = Material(world, DenoiseConfig(num_chunks=3, render_dropout=0.0), 4, data=data)
    return ContextForcingStage(material, ContextForcingConfig(**forcing), teacher=world.dit)  # type: ignore[arg-type]


def cut(stage: ContextForcingStage) -> Segment:
    zeros = torch.zeros(4, dtype=torch.long)
    return stage.segments.cut(stage.material.data, torch.arange(4), zeros + ENTRY, zeros, [0] * 4)


def test_a_chunk_is_shown_what_an_engine_would_render(world: World) -> None:
    stage = make_stage(world, shown(world))
    data, segment, part = stage.material.data, cut(stage), slice(0, 4)
    assert data.frames is not None
    assert data.depth is not None
    engine = Engine(world, 4)
    rows, ends = torch.arange(4), 4 * torch.arange(ENTRY)
    engine.begin(rows, data.latents[:, :FIRST].float(), {"c2w": data.track["c2w"][:, :FIRST]}, [0] * 4)
    engine.history.bank.show(rows, ends.expand(4, -1), data.frames[:, :ENTRY], data.depth[:, :ENTRY])
    engine.history.bank.given[:] = 1
    theirs = engine.history.stage(rows, segment.track.part(part), K=engine.K).rendered
    ours = stage.segments.render(segment, segment.chosen[0], part)
    assert theirs is not None
    assert ours is not None
    assert 0.02 < float(theirs.known.mean()) < 0.98
    assert torch.equal(ours.known, theirs.known)
    assert torch.allclose(ours.latents, theirs.latents * (theirs.known > 0), atol=1e-5)
    assert not ours.mask.any(), "they enter the transformer and guide nothing"


def test_the_teacher_is_shown_nothing_of_the_segment_and_the_student_what_it_made(world: World) -> None:
    data = shown(world)
    assert data.frames is not None
    stage, frames = make_stage(world, data), data.frames.clone()
    segment = cut(stage)
    frames[:, ENTRY:] = 255 - frames[:, ENTRY:]  # of the segment and later
    other = cut(make_stage(world, replace(data, frames=frames)))
    assert segment.rendered is not None
    assert other.rendered is not None
    assert torch.equal(segment.rendered.latents, other.rendered.latents)
    a, b = (stage.chunkwise.rollout(s, torch.Generator().manual_seed(1), exits=[1, 1, 1]) for s in (segment, other))
    assert torch.equal(a, b), "nor is the student shown what was recorded there"
    assert segment.bank.frames is not None
    found = segment.bank.frames[:, ENTRY : ENTRY + 3].int()
    whole = torch.cat([data.latents[:, :FIRST].float(), a], 1)
    with torch.no_grad():
        truth = to_frames(world.vae.decode(whole))[:, ::16].int()
    assert int((found - truth[:, ENTRY : ENTRY + 3]).abs().max()) <= 1, f"{DECODED} latents decode alike"
    quiet = replace(cut(stage), shows=torch.zeros(4, dtype=torch.bool))
    rendered = stage.segments.render(quiet, quiet.chosen[0], slice(0, 4))
    assert rendered is not None
    assert not rendered.known.any()


def test_histories_that_the_student_made_are_rendered_as_it_made_them(world: World) -> None:
    stage = make_stage(world, shown(world), source="self")
    torch.manual_seed(0)
    segment = stage.chunkwise.after_history(torch.Generator().manual_seed(0))
    assert segment.bank.frames is not None
    assert segment.rendered is not None
    again = stage.segments.render(segment, segment.joint, slice(0, stage.segments.num_latents))
    assert again is not None
    assert torch.equal(segment.rendered.latents, again.latents)
    row = int(segment.first.argmax())
    slot = int(segment.first[row]) // 4
    recorded = next(f for f in shown(world).frames if torch.equal(f[0], segment.bank.frames[row, 0]))  # type: ignore[union-attr]
    assert slot > 1
    assert not torch.equal(segment.bank.frames[row, slot], recorded[slot])


def test_clips_are_rendered_from_what_lies_before_each_chunk(world: World) -> None:
    data = walks(world, 1)
    latents, track = data.latents[0].float(), data.track.at(0)
    start = torch.randint(0, 256, (world.spec.height, world.spec.width, 3), dtype=torch.uint8)

    def made(config: RendersConfig, latents: torch.Tensor = latents) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        renderer = ClipRenderer(world, config)
        views = decoded_views(world, renderer.renderer, start, latents)
        assert torch.equal(views[0][0], start)
        assert len(views[0]) == len(views[1]) == 12
        return renderer(latents, track, views, generator)

    plain = made(RendersConfig())
    assert plain.shape == (2, LATENTS, world.latent_shape[0] + 1, *world.latent_shape[1:])
    changed = latents.clone()
    changed[FIRST:] *= -1
    later = made(RendersConfig(), changed)
    assert torch.equal(later[:, : FIRST + 4], plain[:, : FIRST + 4]), "nothing of itself"
    assert not torch.equal(later[:, FIRST + 4 :], plain[:, FIRST + 4 :])
    generated = made(RendersConfig(generated=1.0))
    assert torch.equal(generated[0], plain[0]), "one variant shows what was recorded"
    assert not torch.equal(generated[1], plain[1])
    with pytest.raises(ValueError, match=r"\[renders\] generated=1.5 is a share"):
        RendersConfig(generated=1.5)


def test_renders_are_left_out_at_the_rate_asked_for() -> None:
    renders = torch.rand(400, 2, 4, 5, 2, 2) + 0.1
    picked = drawn(renders, dropout=0.25, generator=torch.Generator().manual_seed(0))
    absent = ~picked.known.flatten(1).any(1)
    assert 0.15 < float(absent.float().mean()) < 0.35
    assert not picked.latents[absent].any()


def test_rolling_windows_are_not_distilled_with_renders(world: World) -> None:
    material = Material(world, DenoiseConfig(), 4, data=shown(world))
    with pytest.raises(ValueError, match="a rolling window is not rendered"):
        rolling_stage(material, ContextForcingConfig(), RollingConfig(), teacher=world.dit)
