"""The released model's rules in the engine: the start view inside the first chunk, prompts, noise drawn ahead."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from worldenv.bodies.camera import press
from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.world.files import find_world
from worldenv.world.info import describe_world
from worldenv.world.world import World, shared_world


@pytest.fixture(scope="module")
def world(release_dir: Path) -> World:
    return World.from_worldplay(release_dir)


@pytest.fixture(scope="module")
def text(world: World, release_dir: Path) -> torch.Tensor:
    return world.require_prompts()(str(release_dir / "text.safetensors"))


def picture(batch: int, seed: int = 0) -> torch.Tensor:
    shape = (batch, 32, 64, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def forward(engine: Engine, num: int = 4) -> Track:
    return press(torch.tensor([[[1, 1]] * num] * engine.num_envs), engine.c2w, engine.spec.steps)


def restart(engine: Engine, seeds: list[int], images: torch.Tensor | None, mask: torch.Tensor | None = None) -> None:
    """Begin from pictures (B, H, W, 3), or from what the world invents."""
    if images is None:
        engine.reset(seeds=seeds, starts=[None] * len(seeds), mask=mask)
    else:
        engine.resume(images[:, None], {}, seeds=seeds, mask=mask)


def begin(world: World, text: torch.Tensor, batch: int, *, images: torch.Tensor | None = None) -> Engine:
    engine = Engine(world, batch)
    engine.set_prompt(text)
    restart(engine, list(range(batch)), images)
    return engine


def step(engine: Engine) -> Chunk:
    return engine.step(forward(engine))


def test_the_first_chunk_contains_the_start_view(world: World, text: torch.Tensor) -> None:
    engine = begin(world, text, 2, images=picture(2))
    command = forward(engine)
    first = engine.step(command)
    assert first.frames.shape == (2, 16, 32, 64, 3)
    assert first.n_frames.tolist() == [12, 12]
    assert torch.equal(first.frames[:, :4], picture(2)[:, None].expand(-1, 4, -1, -1, -1))
    # Latent 0 is the start; three commands follow, the fourth is dropped.
    c2w = first.signals["c2w"]
    assert torch.equal(c2w[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    assert torch.equal(c2w[:, 1:], command["c2w"][:, :3])
    assert torch.equal(engine.c2w, command["c2w"][:, 2])
    assert engine._state.bank.length.tolist() == [4, 4]
    second = step(engine)
    assert second.n_frames.tolist() == [16, 16]
    assert engine._state.bank.length.tolist() == [8, 8]


def test_a_release_in_lower_precision_keeps_its_float32_layers(release_dir: Path) -> None:
    shared = shared_world(release_dir, device=torch.device("cpu"), dtype=torch.bfloat16)
    for world in (shared, World.from_pretrained(release_dir, dtype="bfloat16")):
        assert world.dit.dtype == torch.bfloat16
        assert world.dit.time_proj.weight.dtype == torch.float32


def test_chunks_of_one_latent_cannot_hold_the_start_view(release_dir: Path) -> None:
    with pytest.raises(ValueError, match="chunk_latents must be at least 2"):
        Engine(World.from_worldplay(release_dir), 1, chunk_latents=1)


def test_the_start_view_itself_stays_as_it_is(world: World, text: torch.Tensor) -> None:
    engine = begin(world, text, 1, images=picture(1))
    start = engine._state.bank.latents[:, 0].clone()
    step(engine)
    assert torch.equal(engine._state.bank.latents[:, 0], start)


def test_without_a_picture_the_world_invents_its_start(world: World, text: torch.Tensor) -> None:
    engine = begin(world, text, 1)
    assert not engine._state.screen.frames.any()
    first = step(engine)
    assert first.n_frames.tolist() == [13]
    assert first.frames[:, :4].any()
    assert torch.equal(first.frames[:, 0], first.frames[:, 3])
    assert engine._state.bank.length.tolist() == [4]


@pytest.mark.parametrize("pictured", [True, False])
def test_a_row_that_begins_anew_equals_one_that_is_alone(world: World, text: torch.Tensor, pictured: bool) -> None:
    """Rows in their first chunk and rows further on share a batch and do not touch each other."""
    images = picture(2) if pictured else None
    engine = begin(world, text, 2, images=images)
    frames = [step(engine).frames]
    restart(engine, [0, 7], images, torch.tensor([False, True]))
    frames += [step(engine).frames, step(engine).frames]
    old = begin(world, text, 1, images=None if images is None else images[:1])
    alone = torch.cat([step(old).frames for _ in range(3)], 1)
    new = Engine(world, 1)
    new.set_prompt(text)
    restart(new, [7], None if images is None else images[1:])
    late = torch.cat([step(new).frames for _ in range(2)], 1)
    assert (torch.cat([f[:1] for f in frames], 1).int() - alone.int()).abs().max() <= 2
    assert (torch.cat([f[1:] for f in frames[1:]], 1).int() - late.int()).abs().max() <= 2


def test_a_prompt_holds_from_the_next_chunk_on_and_for_its_rows_only(
    world: World, text: torch.Tensor, release_dir: Path
) -> None:
    same, changed = (begin(world, text, 2, images=picture(2)) for _ in range(2))
    one, two = step(same), step(changed)
    assert torch.equal(one.frames, two.frames)
    changed.set_prompt(str(release_dir / "other.safetensors"), rows=[1])
    one, two = same.generate(forward(same)), changed.generate(forward(changed))
    torch.testing.assert_close(one[0], two[0], atol=1e-5, rtol=1e-5)
    assert (one[1] - two[1]).abs().max() > 1e-3


def test_prompts_are_refused_where_they_do_not_fit(world: World, tiny_world: World, text: torch.Tensor) -> None:
    engine = Engine(world, 1)
    with pytest.raises(ValueError, match=r"text has shape \(1, 3, 4\), expected \(B, L, 10\)"):
        engine.set_prompt(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="no text_encoder folder"):
        engine.set_prompt("a maze of brick that was never encoded")
    with pytest.raises(ValueError, match="takes no prompt"):
        Engine(tiny_world, 1).set_prompt("a maze")
    with pytest.raises(ValueError, match="takes no text"):
        Engine(tiny_world, 1).set_prompt(text)
    restart(engine, [0], picture(1))
    with pytest.raises(ValueError, match="was trained with prompts"):
        step(engine)


def test_noise_drawn_ahead_is_one_draw_per_row(world: World, text: torch.Tensor) -> None:
    engine = Engine(world, 1, sampler=replace(world.config.sampler, noise_horizon=8))
    engine.set_prompt(text)
    restart(engine, [3], picture(1))
    noise = engine._state.noise.clone()
    assert noise.shape == (1, 8, 4, 2, 4)
    plain = begin(world, text, 1, images=picture(1))
    start = {"c2w": torch.eye(4, dtype=torch.float64)[None, None]}
    plain.begin(torch.zeros(1, dtype=torch.long), plain._state.bank.latents[:1, :1].clone(), start, [3], noise=noise)
    for _ in range(2):
        assert torch.equal(step(engine).frames, step(plain).frames)
    step(engine)  # beyond the horizon noise comes chunk by chunk
    other = Engine(world, 1, sampler=replace(world.config.sampler, noise_horizon=8))
    restart(other, [4], picture(1))
    assert not torch.equal(other._state.noise, noise)


def test_an_episode_is_cloned_with_its_noise(world: World, text: torch.Tensor) -> None:
    engine = Engine(world, 2, sampler=replace(world.config.sampler, noise_horizon=8))
    engine.set_prompt(text)
    restart(engine, [0, 1], picture(2))
    step(engine)
    engine.restore_state(engine.clone_state([0]), [1])
    frames = step(engine).frames
    assert (frames[0].int() - frames[1].int()).abs().max() <= 2


@torch.no_grad()
def test_released_rounding_stays_within_bfloat16_of_float32(
    world: World, release_dir: Path, text: torch.Tensor
) -> None:
    wanted = begin(world, text, 1, images=picture(1)).generate(forward(begin(world, text, 1, images=picture(1))))
    for numerics in ("reference", "clean"):
        rounded = World.from_worldplay(release_dir, dtype=torch.bfloat16, numerics=numerics)
        engine = begin(rounded, text, 1, images=picture(1))
        found = engine.generate(forward(engine))
        error = (found - wanted).abs().max() / wanted.abs().max()
        assert 0 < error < 0.05, numerics
    exact = World.from_worldplay(release_dir, numerics="reference")
    engine = begin(exact, text, 1, images=picture(1))
    torch.testing.assert_close(engine.generate(forward(engine)), wanted, atol=2e-4, rtol=2e-4)


def test_a_release_is_a_world_by_its_directory(release_dir: Path, world: World, tmp_path: Path) -> None:
    assert find_world(release_dir) == release_dir
    assert World.from_pretrained(release_dir).config.name == "worldplay"
    described = describe_world(world)
    assert "Tencent HY-WorldPlay Community License" in described
    assert "excluded" in described
    with pytest.raises(ValueError, match="keep that directory"):
        world.save_pretrained(tmp_path)
    text = (release_dir / "config.json").read_text().replace('"height": 32', '"height": 720')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"\(720, 64\) must be multiples of 32"):
        World.from_worldplay(tmp_path)
