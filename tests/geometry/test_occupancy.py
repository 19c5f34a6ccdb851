"""What depth tells of a floor, and how a body slides along what is solid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.camera import pixel_rays
from worldenv.geometry.occupancy import MOST, Occupancy, WallsConfig
from worldenv.geometry.pose import look

SPEC = WorldSpec()
EYE = 1.28
ONE = torch.zeros(1, dtype=torch.long)


def pose(x: float, z: float, yaw_deg: float = 0.0) -> Tensor:
    position = torch.tensor([x, -EYE, z], dtype=torch.float64)
    return look(position, torch.tensor(math.radians(yaw_deg), dtype=torch.float64))[None]


def room_depth(c2w: Tensor, walls: dict[str, float]) -> Tensor:
    """Depth (1, H, W) of a room with walls at x or z = what is named, a floor and a ceiling."""
    rays = pixel_rays(SPEC.K.double(), width=SPEC.width, height=SPEC.height) @ c2w[0, :3, :3].T
    planes = {"low_x": (0, -1), "high_x": (0, 1), "low_z": (2, -1), "high_z": (2, 1)}
    reached = [torch.where(rays[..., 1].abs() > 1e-9, EYE / rays[..., 1].abs(), math.inf)]
    for name, at in walls.items():
        axis, side = planes[name]
        towards = rays[..., axis] * side
        reached.append(torch.where(towards > 1e-9, (at - c2w[0, axis, 3]) / rays[..., axis], math.inf))
    return torch.stack(reached).amin(0)[None]


def walk(space: Occupancy, start: Tensor, motion: tuple[float, float], latents: int) -> Tensor:
    """Where a walk in a straight line gets to, (F, 2) x and z."""
    path = start[:, None].repeat(1, latents, 1, 1)
    steps = torch.arange(1, latents + 1, dtype=torch.float64)
    path[0, :, 0, 3] += motion[0] * steps
    path[0, :, 2, 3] += motion[1] * steps
    return space.slide(ONE, start, path)[0, :, [0, 2], 3]


def seen_room(walls: dict[str, float], *views: Tensor) -> Occupancy:
    space = Occupancy(1, WallsConfig())
    for view in views:
        space.observe(ONE, room_depth(view, walls), view, SPEC.K)
    return space


def test_nothing_is_known_before_anything_is_seen() -> None:
    space = Occupancy(1, WallsConfig())
    assert torch.allclose(walk(space, pose(0, 0), (0, 0.25), 40)[-1], torch.tensor([0.0, 10.0]).double())


def test_a_wall_stops_a_body_at_its_radius() -> None:
    space = seen_room({"high_z": 3.0}, pose(0, 0))
    end = walk(space, pose(0, 0), (0, 0.25), 40)[-1]
    assert end.tolist() == pytest.approx([0, 2.5], abs=0.13)


def test_motion_along_a_wall_is_kept() -> None:
    space = seen_room({"high_z": 3.0}, pose(0, 0), pose(2, 0))
    path = walk(space, pose(0, 0), (0.15, 0.2), 20)
    assert path[-1].tolist() == pytest.approx([3.0, 2.5], abs=0.15)
    assert (path[1:, 0] > path[:-1, 0]).all()


def test_a_corner_stops_both_ways() -> None:
    space = seen_room({"high_z": 3.0, "high_x": 2.0}, pose(0, 0), pose(0, 0, 60))
    assert walk(space, pose(0, 0), (0.2, 0.25), 40)[-1].tolist() == pytest.approx([1.5, 2.5], abs=0.15)


def test_who_stands_too_near_can_walk_away_and_is_not_pushed() -> None:
    space = seen_room({"high_z": 3.0}, pose(0, 0))
    near = pose(0, 2.75)
    assert walk(space, near, (0, 0), 4)[-1].tolist() == pytest.approx([0, 2.75])
    assert walk(space, near, (0, 0.25), 4)[-1].tolist() == pytest.approx([0, 2.75], abs=0.01)
    assert walk(space, near, (0, -0.25), 4)[-1].tolist() == pytest.approx([0, 1.75])


def test_near_views_overturn_far_ones_and_not_the_other_way_round() -> None:
    space, view = seen_room({"high_z": 5.5}, pose(0, 0)), pose(0, 4.6)
    space.observe(ONE, room_depth(view, {"high_z": 9.0}), view, SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 30)[-1, 1] > 7
    space = seen_room({"high_z": 5.5}, view)
    for _ in range(5):
        space.observe(ONE, room_depth(pose(0, 0), {"high_z": 9.0}), pose(0, 0), SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 30)[-1, 1] == pytest.approx(5.0, abs=0.13)


def test_a_wall_is_not_unseen_from_as_near() -> None:
    near = pose(0, 2.4)
    space = seen_room({"high_z": 3.0}, near)
    space.observe(ONE, room_depth(near, {"high_z": 9.0}), near, SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 30)[-1, 1] == pytest.approx(2.5, abs=0.13)


def test_what_lies_behind_a_wall_is_unknown_and_the_floor_before_it_free() -> None:
    space = seen_room({"high_z": 3.0}, pose(0, 0))
    column = space.evidence[0, :, space.centre[0, 1] % 256]
    ahead = column[(space.centre[0, 0] + torch.arange(1, 60)) % 256]
    assert (ahead[:19] < 0).all()
    assert (ahead[26:] == 0).all()
    assert int(ahead.max()) == 2  # from three metres


def test_a_grid_wraps_and_forgets_what_is_far_away() -> None:
    walls = {"high_z": 3.0, "low_z": -40.0}
    space = Occupancy(1, WallsConfig(cells=128, reach=6.0))  # 8 m each way
    for z, yaw in ((0, 0), (-4, 180), (0, 180)):
        view = pose(0, z, yaw)
        space.observe(ONE, room_depth(view, walls), view, SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 30)[-1, 1] < 2.7
    for z in (-4, -8, -12, -8, -4, 0):
        view = pose(0, z, 180)
        space.observe(ONE, room_depth(view, walls), view, SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 30)[-1, 1] == 7.5


def test_endless_depth_is_far_away() -> None:
    space = Occupancy(1, WallsConfig())
    space.observe(ONE, torch.full((1, 48, 64), math.inf), pose(0, 0), SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 40)[-1, 1] == 10
    assert not (space.evidence > 0).any()


def test_rows_know_only_their_own() -> None:
    space, both = Occupancy(2, WallsConfig()), torch.arange(2)
    view = pose(0, 0).expand(2, -1, -1)
    depth = torch.cat([room_depth(view[:1], {"high_z": 3.0}), room_depth(view[:1], {"high_z": 2.0})])
    space.observe(both, depth, view, SPEC.K)
    alone = seen_room({"high_z": 2.0}, pose(0, 0))
    assert torch.equal(space.evidence[1], alone.evidence[0])
    assert not torch.equal(space.evidence[0], space.evidence[1])
    space.fork(torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(space.evidence[0], space.evidence[1])
    space.clear(torch.tensor([0]))
    assert not space.evidence[0].any()
    assert int(space.evidence.abs().max()) <= MOST


@pytest.mark.parametrize("wrong", [{"cells": 10}, {"radius": 0}, {"margin": -1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WallsConfig(**wrong)  # type: ignore[arg-type]


def test_where_a_body_has_stood_is_free_whatever_is_seen_there_later() -> None:
    trodden, space = (seen_room({}, pose(0, 0)) for _ in range(2))
    trodden.tread(ONE, torch.cat([pose(0, 0.25 * i) for i in range(20)])[None])
    for known in (trodden, space):
        known.observe(ONE, room_depth(pose(0, 0), {"high_z": 2.0}), pose(0, 0), SPEC.K)
    assert walk(space, pose(0, 0), (0, 0.25), 16)[-1, 1] == pytest.approx(1.5, abs=0.2)
    assert walk(trodden, pose(0, 0), (0, 0.25), 16)[-1].tolist() == pytest.approx([0, 4], abs=0.2)
    aside = pose(2, 0)
    assert walk(trodden, aside, (0, 0.25), 16)[-1, 1] == pytest.approx(1.5, abs=0.2)
