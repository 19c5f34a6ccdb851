"""Point clouds of a room whose walls are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.geometry.test_splat import HEIGHT, WIDTH, K, camera, room
from worldenv.geometry.cloud import PointCloud, agreed, lift, thin

VIEWS = [camera(0, 0, 0), camera(1, 0.5, 40), camera(-1, 0, 200, 10)]


def seen(views: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    colours, depths = zip(*(room(c) for c in views), strict=True)
    frames = (255 * (torch.stack(colours).movedim(1, -1) / 2 + 0.5)).to(torch.uint8)
    depth = torch.stack(depths)
    return frames, depth, torch.full_like(depth, 0.1), torch.stack(views)


def lifted(views: list[Tensor]) -> PointCloud:
    return lift(*seen(views), K, reach=20.0)


def off_walls(xyz: Tensor) -> Tensor:
    """How far points are from the nearest wall of the room."""
    return (torch.tensor([4.0, 1.5, 4.0]) - xyz.abs()).abs().amin(-1)


def test_points_lie_on_the_walls_and_face_the_room() -> None:
    cloud = lifted(VIEWS)
    assert len(cloud) > 0.8 * 3 * WIDTH * HEIGHT  # but what is seen at too flat an angle
    assert off_walls(cloud.xyz).max() < 1e-4
    inner = cloud.select((torch.tensor([4.0, 1.5, 4.0]) - cloud.xyz.abs()).sort(-1).values[:, 1] > 0.6)
    axis = inner.normal.abs().argmax(-1, keepdim=True)  # of the wall, away from corners
    assert (inner.normal.gather(1, axis).abs() > 0.999).all()
    assert ((inner.normal * inner.xyz).sum(-1) < 0).all()
    floor = (cloud.xyz[:, 1] > 1.4).sum()
    assert floor > 100  # y points down: the floor is where it is positive
    assert ((cloud.across * cloud.normal).sum(-1).abs() < 1e-5).all()
    assert (cloud.across.norm(dim=-1) - 1).abs().max() < 1e-5
    assert (cloud.radius[:, 1] >= cloud.radius[:, 0]).all()


def test_what_is_far_or_the_smear_of_an_edge_is_left_out() -> None:
    frames, depth, error, c2w = seen(VIEWS[:1])
    assert lift(frames, depth, error, c2w, K, reach=2.0).xyz[:, 2].max() < 2.0
    depth = torch.full((1, 8, 8), 2.0)
    depth[..., 4], depth[..., 5:] = 4.0, 8.0  # one column between two surfaces
    cloud = lift(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), depth, depth / 10, torch.eye(4)[None], K, reach=20.0)
    assert set(cloud.xyz[:, 2].tolist()) == {2.0, 8.0}


def test_what_others_look_through_is_dropped() -> None:
    frames, depth, error, c2w = seen([VIEWS[0]] * 3)
    depth[0, 8:12, 8:12] *= 0.5  # a thing that the other two do not see
    cloud = lift(frames, depth, error, c2w, K, reach=20.0)
    kept = agreed(cloud, depth, c2w, K, tolerance=0.15)
    afloat = off_walls(cloud.xyz) > 0.3
    assert afloat.sum() == 16
    assert not kept[afloat].any()
    assert kept[~afloat].all()


def test_the_surest_of_what_is_close_stays() -> None:
    cloud = lifted(VIEWS)
    assert len(thin(cloud, 0.4)) < len(cloud) / 2
    spread = torch.tensor([[0.01, 0.0, 0.0], [0.02, 0.01, 0.0], [0.35, 0.0, 0.0]])
    three = replace(cloud.select(torch.arange(3)), xyz=spread, error=torch.tensor([0.3, 0.1, 0.2]))
    found = thin(three, 0.1)
    assert sorted(found.error.tolist()) == pytest.approx([0.1, 0.2])
    wide = replace(three, radius=torch.tensor([[0.01, 0.01], [0.01, 0.01], [0.4, 0.4]]))
    assert thin(wide, 0.1).error.tolist() == pytest.approx([0.1])  # a large point gives way to what is surer around it
    assert found.radius.min() >= 0.049
    assert not len(thin(cloud.select(torch.zeros(len(cloud), dtype=torch.bool)), 0.1))
    assert math.isclose(float(found.radius[0, 0]), max(0.05, float(three.radius[1, 0])), rel_tol=1e-5)
