"""Stage ``consistency`` on a room whose depth and views are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import make_tiny_world
from tests.training.test_segments import MEMORY, walks
from worldenv.data.dataset import DepthDataset
from worldenv.geometry.camera import intrinsics, pixel_rays
from worldenv.geometry.pose import look
from worldenv.models.gaussian_head import PixelGaussians
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.spatial import View, depth_loss, render_loss
from worldenv.training.stages.consistency import SpatialConfig, SpatialStage
from worldenv.world.world import World

ROOM = torch.tensor([6.0, 1.5, 6.0], dtype=torch.float64)
"""Half the sides of the room, in metres."""


def room(c2w: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Show a room with smooth colours: frames (N, H, W, 3) uint8 and depth (N, H, W)."""
    rays = pixel_rays(K.double(), width=size[1], height=size[0]) @ c2w[:, None, :3, :3].mT
    where = c2w[:, None, None, :3, 3]
    depth = torch.where(rays > 0, (ROOM - where) / rays, (-ROOM - where) / rays).amin(-1)
    colour = torch.sin(0.7 * (where + depth[..., None] * rays))
    return (127.5 * (1 + colour)).to(torch.uint8), depth.float()


def make_stage(steps: int = 16, **spatial: float) -> SpatialStage:
    """Latents are small pictures with depth: what a head can learn to read."""
    torch.manual_seed(0)
    tiny = make_tiny_world()
    world = World(replace(tiny.config, memory=MEMORY), vae=tiny.vae, dit=tiny.dit.requires_grad_(True))
    spec, data = world.spec, walks(world, length=21, memory_from=9)
    near = data.track["c2w"].flatten(0, 1)
    near[:, :3, 3] *= 1.0
    frames, depth = room(near, spec.K, (spec.height, spec.width))
    pictures = torch.cat([frames.movedim(-1, 1).float() / 127.5 - 1, depth.log()[:, None]], 1)
    latents = F.avg_pool2d(pictures, 8).unflatten(0, data.latents.shape[:2])
    views = DepthDataset(*(part.unflatten(0, data.latents.shape[:2]) for part in (frames, depth)))
    material = Material(world, DenoiseConfig(draws=1, shift=0.5), 3, data=replace(data, latents=latents.half()))
    return SpatialStage(material, SpatialConfig(**spatial), views=views, steps=steps)  # type: ignore[arg-type]


def measured(stage: SpatialStage) -> dict[str, float]:
    """Average what it logs over the same batches."""
    with torch.no_grad():
        found = [stage.loss(torch.Generator().manual_seed(1000 + i))[1] for i in range(4)]
    return {key: sum(f[key] for f in found) / len(found) for key in found[0]}


def test_both_losses_fall() -> None:
    stage = make_stage(depth=1.0, render=1.0, ramp=0.1, detached=1.0)
    optim = torch.optim.Adam(stage.module.parameters(), lr=3e-3)
    before = measured(stage)
    for step in range(stage.steps):
        stage.begin(step)
        loss, _ = stage.loss(torch.Generator().manual_seed(step))
        optim.zero_grad()
        loss.backward()
        optim.step()
    after = measured(stage)
    assert after["depth"] < 0.75 * before["depth"]
    assert after["render"] < 0.75 * before["render"]
    assert after["flow"] < before["flow"]


def gradient(detached: float = 1.0, **weights: float) -> Tensor:
    """Return the gradient of one step in the middle of training on the first block's weights."""
    stage = make_stage(ramp=0.0, detached=detached, **weights)
    stage.begin(stage.steps // 2)
    stage.loss(torch.Generator().manual_seed(0))[0].backward()
    assert all(p.grad is None for p in stage.material.world.vae.parameters())
    found = stage.material.module.blocks[0].attn.to_qkv.weight.grad  # type: ignore[union-attr]
    assert isinstance(found, Tensor)
    return found


def test_each_loss_reaches_the_transformer() -> None:
    plain = gradient(depth=0.0, render=0.0)
    assert not torch.equal(gradient(depth=1.0, render=0.0), plain)
    assert not torch.equal(gradient(depth=0.0, render=1.0), plain)
    with_colours = gradient(depth=0.0, render=1.0, detached=0.0)
    assert not torch.equal(with_colours, gradient(depth=0.0, render=1.0))
    assert torch.isfinite(with_colours).all()


def test_weights_grow_from_nothing() -> None:
    stage = make_stage(depth=2.0, render=3.0, ramp=0.5)
    for step, share in ((0, 0.0), (4, 0.5), (8, 1.0), (16, 1.0)):
        stage.begin(step)
        loss, figures = stage.loss(torch.Generator().manual_seed(0))
        extra = share * (2.0 * figures["depth"] + 3.0 * figures["render"])
        assert float(loss.detach()) == pytest.approx(figures["flow"] + extra, rel=1e-4)


def test_the_other_view_is_another_one_of_the_clip() -> None:
    stage = make_stage()
    index = torch.randint(0, 21, (500,), generator=torch.Generator().manual_seed(0))
    other = stage._others(index, torch.Generator().manual_seed(1))
    assert (other != index).all()
    assert other.min() >= 0
    assert other.max() <= 20
    assert ((other - index).abs() <= 6).all()


def test_true_depth_renders_well_and_a_wrong_one_does_not() -> None:
    """And what the target shows of surfaces that the source did not is held against nobody."""
    K, size = intrinsics(64, 48, fov_deg=90), (48, 64)
    yaw = torch.tensor([0.0, 0.3], dtype=torch.float64)
    c2w = look(torch.tensor([[0.0, 0.0, 0.0], [0.4, 0.0, 0.5]], dtype=torch.float64), yaw)
    frames, depth = room(c2w, K, size)
    pixels = frames.movedim(-1, 1).float() / 127.5 - 1
    source, target = (View(pixels[i : i + 1], depth[i : i + 1], c2w[i : i + 1]) for i in (0, 1))

    def error(scale: float, view: View = target) -> float:
        found = PixelGaussians((scale * source.depth).log(), torch.full_like(source.depth, -0.35), torch.ones(1, *size))
        return float(render_loss(found, source.pixels, source, view, K))

    right = error(1.0)
    assert right < 0.1
    assert min(error(0.8), error(1.25)) > 2 * right
    spoilt = torch.where(depth[1:] > 0, target.pixels, 0.0)
    spoilt[..., -12:] = 1.0  # the source did not look there, to the right
    assert error(1.0, replace(target, pixels=spoilt)) == pytest.approx(right, rel=0.2)


def test_depth_may_be_off_in_scale_by_half() -> None:
    truth = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    assert depth_loss(truth.log(), truth).abs().max() < 1e-9
    off = torch.full((3, 1, 1), 0.4)
    assert depth_loss(truth.log() + off, truth).tolist() == pytest.approx([0.08] * 3)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"depth": -1.0}, {"render": float("nan")}, {"ramp": 1.5}, {"detached": -0.1}, {"reach": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SpatialConfig(**wrong)  # type: ignore[arg-type]
