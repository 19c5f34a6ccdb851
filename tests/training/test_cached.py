"""The cached rule in training is the rule of inference: same pages, gradients through all of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.test_segments import walks
from worldenv.data.dataset import LatentDataset
from worldenv.engine.engine import Engine
from worldenv.memory.config import MemoryConfig
from worldenv.training.chunks import Chunks
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.recorded import RecordedPast
from worldenv.training.segments import Segments
from worldenv.training.stages.memory import MemoryStage
from worldenv.training.windows import window_loss
from worldenv.world.world import World

MEMORY = MemoryConfig(policy="worldscape", temporal_latents=8, pool_entries=3, gain=0.3, num_points=512)
LENGTH = 33


@pytest.fixture
def world(tiny_world: World) -> World:
    config = replace(tiny_world.config, memory=MEMORY)
    return World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)


def make_stage(world: World, data: LatentDataset, **changes: object) -> MemoryStage:
    settings = {"forcing": 0.0, "cached": 1.0, "clean_context": 1.0, "label_dropout": 0.0, **changes}
    config = DenoiseConfig(**settings)  # type: ignore[arg-type]
    return MemoryStage(Material(world, config, 8, data=data))


@torch.no_grad()
@pytest.mark.parametrize("chunk", [4, 1])
def test_training_holds_the_pages_that_the_engine_holds(world: World, chunk: int) -> None:
    data = walks(world, 2, length=LENGTH)
    engine = Engine(world, 2, decode=False, chunk_latents=chunk)
    engine.history.begin(torch.arange(2), data.latents.float(), data.track, K=engine.K)
    past = RecordedPast(world.dit, world, 2, chunk_latents=chunk)
    for part in engine.history.layout.parts(LENGTH):
        prepared = past.prepare(data.track, part, K=engine.K)
        clean = torch.full((2, part.stop - part.start), 14.0)
        past.record(prepared, data.latents[:, part].float(), clean, data.track, part)
    store = engine.history.store
    assert store is not None
    assert store.pool is not None
    assert torch.equal(store.entry, past.store.entry)
    for row in range(2):
        ours, theirs = store.pages[row].flatten(), past.store.pages[row].flatten()
        keys, values = store.pool.gather(ours[ours >= 0][None])
        place = theirs[theirs >= 0].long()
        torch.testing.assert_close(past.keys[:, row, place], keys[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(past.values[:, row, place], values[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["cached", "single"])
def test_gradients_reach_every_weight_through_the_recorded_past(world: World, kind: str) -> None:
    stage = make_stage(world, walks(world, length=LENGTH, memory_from=17), **{"cached": 0.0, kind: 1.0})
    module = stage.module.requires_grad_(True)
    try:
        loss, _ = stage.loss(torch.Generator().manual_seed(1))
        loss.backward()
        silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []
        again, _ = stage.loss(torch.Generator().manual_seed(1))
        assert again.item() == loss.item(), "a step follows from its generator"
    finally:
        module.requires_grad_(False).zero_grad()


def test_chunks_that_need_memory_weigh_their_share(world: World) -> None:
    """Half of the chunks need memory; asked for 80 %, they weigh four times the others, and the mean stays 1."""
    stage = make_stage(world, walks(world, length=LENGTH, memory_from=17), necessary=0.8)
    weights = stage.chunks.need_weights(torch.tensor([0, 1]), 8)
    assert weights.shape == (2, 8)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights[:, 4:], torch.full((2, 4), 1.6))
    torch.testing.assert_close(weights[:, :4], torch.full((2, 4), 0.4))


def test_the_stage_trains_and_previews_with_recorded_memory(world: World, tmp_path: Path) -> None:
    stage = make_stage(world, walks(world, length=LENGTH, memory_from=17))
    figures = stage.preview(tmp_path, 0)
    assert {"psnr_worldscape", "psnr_worldplay"} <= set(figures)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [4, 1])
def test_chunks_see_of_recorded_clips_what_is_kept_of_them(tiny_world: World, chunk: int) -> None:
    """A context that is encoded anew gives what the engine has kept, which knows of more than the window holds."""
    memory = MemoryConfig(policy="recent", kept=True, temporal_latents=4, retrieved_chunks=0)
    config = replace(tiny_world.config, memory=memory, spec=replace(tiny_world.spec, chunk_latents=chunk))
    world = World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)
    denoise = DenoiseConfig(policies=(("recent", 1.0),), draws=1)
    data = walks(world, length=1 + 2 * 4)
    chunks = Chunks(Material(world, denoise, 6, data=data))
    bank, target, _ = chunks.targets(torch.Generator().manual_seed(0))
    context = chunks.context(bank, target, torch.Generator().manual_seed(0))
    assert int(bank.length.max()) > 4, "something is out of sight"
    engine = Engine(world, 6, decode=False)
    assert bank.order is not None
    for row, (clip, length) in enumerate(zip(bank.order.tolist(), bank.length.tolist(), strict=True)):
        past = data.track.at((torch.tensor([clip]), slice(length)))
        engine.history.begin(torch.tensor([row]), data.latents[clip, None, :length].float(), past, K=engine.K)
    kept = engine.history.encode(engine.history.stage(torch.arange(6), target.track, K=engine.K))
    x, timesteps = torch.randn(target.latents.shape), torch.full(target.entry.shape, 500.0)
    made = chunks.encode(world.dit, context, target).velocity(x, timesteps)
    torch.testing.assert_close(made, kept.velocity(x, timesteps), atol=1e-4, rtol=1e-4)


def test_segments_are_for_worlds_that_keep_nothing(tiny_world: World) -> None:
    config = replace(tiny_world.config, memory=MemoryConfig(policy="recent", kept=True))
    world = World(config, vae=tiny_world.vae, dit=tiny_world.dit)
    material = Material(world, DenoiseConfig(policies=(("recent", 1.0),)), 4, data=walks(world, length=LENGTH))
    with pytest.raises(ValueError, match=r"kept=true: segments are .* set kept=false"):
        Segments(material)


def test_windows_see_no_further_back_than_what_is_kept(tiny_world: World) -> None:
    """Of two kept chunks: in windows of two chunks nothing changes, in longer ones the far past is out of sight."""

    def loss(*, kept: bool, num_chunks: int) -> float:
        memory = MemoryConfig(policy="recent", kept=kept, temporal_latents=4)
        config = replace(tiny_world.config, memory=memory)
        world = World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)
        denoise = DenoiseConfig(num_chunks=num_chunks, policies=(("recent", 1.0),))
        material = Material(world, denoise, 4, data=walks(world, length=LENGTH))
        return float(window_loss(material, torch.Generator().manual_seed(0), causal=True))

    assert loss(kept=True, num_chunks=2) == loss(kept=False, num_chunks=2)
    assert loss(kept=True, num_chunks=4) != loss(kept=False, num_chunks=4)
