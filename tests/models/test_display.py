"""The display decoder by itself, and what a world with one shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from worldenv.engine.engine import Engine
from worldenv.models.heads import DisplayConfig, DisplayHead, HeadConfigs
from worldenv.models.heads.display import enlarged, shrunk
from worldenv.world.world import World

SMALL = DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1)


@pytest.fixture
def head() -> DisplayHead:
    torch.manual_seed(0)
    head = DisplayHead(SMALL).requires_grad_(False)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return head


def test_it_begins_as_bicubic_interpolation() -> None:
    pixels = torch.rand(2, 3, 12, 20) * 2 - 1
    torch.testing.assert_close(DisplayHead(SMALL)(pixels), enlarged(pixels))
    with pytest.raises(ValueError, match="20x10 pixels; the display decoder takes multiples of 4"):
        DisplayHead(SMALL)(torch.zeros(1, 3, 10, 20))


def test_a_picture_depends_on_its_frame_alone(head: DisplayHead) -> None:
    frames = torch.randint(0, 256, (2, 11, 12, 16, 3), dtype=torch.uint8)
    shown = head.show(frames)
    assert shown.shape == (2, 11, 48, 64, 3)
    assert shown.dtype == torch.uint8
    for i, t in ((0, 0), (1, 10)):
        alone = head.show(frames[i, t])
        assert alone.shape == (48, 64, 3)
        assert (alone.int() - shown[i, t].int()).abs().max() <= 1, "rounding"
    assert (shown.float() - head.show(frames.flip(0)).flip(0).float()).abs().max() <= 1


def test_shrinking_averages_squares() -> None:
    frames = torch.randint(0, 256, (3, 2, 5, 3), dtype=torch.uint8)
    large = frames.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(shrunk(large), frames)
    large[:, ::2] = 0
    assert torch.equal(shrunk(large), (frames.float() / 2).round().to(torch.uint8))


def test_it_learns_what_small_frames_lack() -> None:
    """Stripes of one colour where frames are dark: nothing that interpolation could know."""
    torch.manual_seed(0)
    head = DisplayHead(SMALL)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    stripes = torch.tensor([-0.4, 0.4]).repeat(16).expand(1, 1, 32, 32)
    for _ in range(60):
        coarse = (torch.rand(8, 1, 8, 8) < 0.5).float().expand(-1, 3, -1, -1) - 0.5
        truth = F.interpolate(coarse, scale_factor=4) + stripes * F.interpolate((coarse < 0).float(), scale_factor=4)
        loss = F.l1_loss(head(coarse), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * float(F.l1_loss(enlarged(coarse), truth))


def test_what_a_world_does_is_the_same_with_a_display_and_without(tiny_world: World, head: DisplayHead) -> None:
    config = replace(tiny_world.config, heads=HeadConfigs(display=SMALL))
    large = World(config, vae=tiny_world.vae, dit=tiny_world.dit, heads={"display": head}, starts=tiny_world.starts)
    frames = []
    for world in (tiny_world, large):
        engine = Engine(world, 2)
        engine.reset(seeds=[1, 2], starts=[None, None])
        chunk = engine.step(_still(engine))
        shown = engine.enlarge(chunk.frames)
        frames.append(chunk.frames)
        times = 4 if world is large else 1
        assert shown.shape == (*chunk.frames.shape[:2], 48 * times, 64 * times, 3)
    assert torch.equal(*frames), "to the bit"
    assert torch.equal(shown[1], head.show(frames[0][1]))
    with pytest.raises(ValueError, match="worldenv train display"):
        tiny_world.require_display()


def _still(engine: Engine) -> dict[str, torch.Tensor]:
    length = engine.spec.chunk_latents
    keys = torch.zeros(engine.num_envs, length, 2, dtype=torch.long)
    return {"keys": keys, "c2w": engine.c2w[:, None].expand(-1, length, -1, -1)}
