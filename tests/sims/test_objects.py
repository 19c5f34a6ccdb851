import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from worldenv.dynamics.labels import CLASSES, COLOURS, SHAPES
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.camera import intrinsics, unproject
from worldenv.geometry.pose import look
from worldenv.sims import (
    MAZES,
    DoomDynamics,
    GoalDistances,
    GoalObject,
    Maze,
    MazeConfig,
    cast_classes,
    cast_depth,
    clearance,
    describe,
    generate_maze,
)
from worldenv.sims.doom.distance import STEP, gap
from worldenv.sims.doom.maze import EYE_HEIGHT, passable
from worldenv.sims.doom.objects import SIZES
from worldenv.sims.doom.paint import LANDMARK_PAINTS, PAINTS, PLAIN_THEMES, flat_lumps, object_paint
from worldenv.sims.doom.presets import maze_config
from worldenv.sims.doom.textures import colour_of

K = intrinsics(64, 48, fov_deg=90)
WITH_OBJECTS = [name for name, config in MAZES.items() if config.objects[1]]


def arrays(maze: Maze) -> dict[str, np.ndarray]:
    values = {field.name: getattr(maze, field.name) for field in dataclasses.fields(maze)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def places(maze: Maze, count: int, seed: int) -> np.ndarray:
    """Points (count, 2) where the player may stand."""
    rng = np.random.default_rng(seed)
    tiles = np.argwhere(maze.free)
    points = (tiles[rng.integers(len(tiles), size=20 * count)] + rng.random((20 * count, 2)))[:, ::-1]
    return points[clearance(maze, points) > 0.5][:count]


def views(maze: Maze, count: int, seed: int) -> torch.Tensor:
    """Poses (count, 4, 4) that look at objects of the maze, among them pitched ones."""
    rng = np.random.default_rng(seed)
    points = places(maze, count, seed)
    centres = np.array([one.centre for one in maze.objects])[rng.integers(len(maze.objects), size=count)]
    yaw = np.arctan2(*(centres - points).T) + rng.uniform(-0.3, 0.3, count)
    position = torch.tensor(np.stack([points[:, 0], np.full(count, -EYE_HEIGHT), points[:, 1]], 1))
    return look(position, torch.tensor(yaw), torch.tensor(rng.uniform(-0.25, 0.25, count)))


def room_with(shape: str) -> Maze:
    """An 8 m square room with a red object in the middle of it, and a wall from the west up to 1 m beside it."""
    n = 10
    solid = np.ones((n, n), bool)
    solid[1:-1, 1:-1] = False
    rows, columns, height = SIZES[shape]
    one = GoalObject(colour="red", shape=shape, row=5, column=5, rows=rows, columns=columns, height=height or 3.0)
    floor = np.zeros((n, n), np.float32)
    if height is None:
        solid[one.tiles] = True
    else:
        floor[one.tiles] = height
    solid[3, 1:6] = True
    zero = np.zeros((n, n), np.int16)
    return Maze(
        seed=0,
        solid=solid,
        floor=floor,
        ceiling=np.full((n, n), 3.0, np.float32),
        wall=zero,
        side=zero - 1,
        floor_texture=zero,
        ceiling_texture=zero,
        light=np.full((n, n), 255, np.uint8),
        textures=("GRAY1",),
        objects=(one,),
    )


def test_classic_mazes_are_what_they_were() -> None:
    digest = hashlib.sha256()
    for seed in range(6):
        maze = generate_maze(seed, MAZES["classic"])
        for value in arrays(maze).values():
            digest.update(value.tobytes())
        digest.update(repr((maze.textures, maze.rooms, maze.landmarks)).encode())
    assert digest.hexdigest()[:16] == "7b365804bf50b5a3"


@pytest.mark.parametrize("seed", range(5))
def test_objects_change_their_own_tiles_and_nothing_else(seed: int) -> None:
    without, maze = generate_maze(seed), generate_maze(seed, MAZES["classic-objects"])
    own = maze.classes > 0
    for name, array in arrays(maze).items():
        assert np.array_equal(array[~own], arrays(without)[name][~own]), name
    assert not (maze.free & own).any()
    assert without.free[own].all()


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_objects_differ_and_never_cut_the_map(name: str) -> None:
    found, counts = set(), set()
    for seed in range(40):
        maze = generate_maze(seed, MAZES[name])
        counts.add(len(maze.objects))
        assert len({one.name for one in maze.objects}) == len(maze.objects)
        assert passable(maze.free)
        for one in maze.objects:
            found.add(one.name)
            around = np.zeros_like(maze.solid)
            around[one.row - 1 : one.row + one.rows + 1, one.column - 1 : one.column + one.columns + 1] = True
            assert maze.free[around & (maze.classes == 0)].all(), "there is a way around it"
            homes = [r for r in maze.rooms if np.isin(maze.classes[r.tiles], 1 + one.class_idx).any()]
            assert len(homes) == 1
            assert (np.unique(maze.classes[homes[0].tiles]) <= 1 + one.class_idx).all() or len(maze.objects) > 1
    low, high = MAZES[name].objects
    assert counts >= set(range(low, high + 1))
    assert max(counts) == high
    assert found == set(CLASSES)


def test_classes_are_named_by_colour_and_shape() -> None:
    assert len(CLASSES) == len(COLOURS) * len(SHAPES)
    maze = room_with("cube")
    (one,) = maze.objects
    assert CLASSES[one.class_idx] == one.name == "red cube"
    assert maze.classes[5, 5] == 1 + one.class_idx
    assert maze.classes.astype(bool).sum() == 1
    with_objects = generate_maze(3, MAZES["plain-objects"])
    assert all(one.name in describe(with_objects) for one in with_objects.objects)


def test_plain_mazes_have_one_look_and_one_light() -> None:
    themes = set()
    for seed in range(40):
        maze = generate_maze(seed, MAZES["plain-objects"])
        looks = {(room.wall, room.floor, room.ceiling) for room in maze.rooms}
        assert len(looks) == 1
        themes |= looks
        assert len(np.unique(maze.light[~maze.solid])) == 1
        assert {mark.texture for mark in maze.landmarks} <= set(LANDMARK_PAINTS)
    assert themes == set(PLAIN_THEMES)
    assert not {colour_of(name) for name in LANDMARK_PAINTS} & set(COLOURS)
    assert {PAINTS[object_paint(colour)].colour for colour in COLOURS} == set(COLOURS)


def test_paints_are_flats() -> None:
    lumps = flat_lumps()
    assert [lumps[0][0], lumps[-1][0]] == ["F_START", "F_END"]
    assert {len(data) for _, data in lumps[1:-1]} == {64 * 64}
    assert all(len(name) <= 8 and len(set(data)) > 1 for name, data in lumps[1:-1])


def test_unknown_mazes_and_wrong_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="maze='round' is unknown; choose one of classic, classic-objects"):
        maze_config("round")
    with pytest.raises(ValueError, match="maze='round'"):
        DoomDynamics(1, spec=WorldSpec(maze="round"))
    with pytest.raises(ValueError, match=r"objects=\(3, 2\)"):
        MazeConfig(objects=(3, 2))


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_segmentation_is_where_the_depth_meets_an_object(name: str) -> None:
    seen_classes = 0
    for seed in range(8):
        maze = generate_maze(seed, MAZES[name])
        c2w = views(maze, 12, seed)
        depth, seen = cast_classes(maze, c2w, K, width=64, height=48)
        assert torch.equal(depth, cast_depth(maze, c2w, K, width=64, height=48))
        points = unproject(depth.double(), c2w, K.double()).reshape(-1, 3).numpy()
        labels = seen.numpy().ravel()
        for one in maze.objects:
            low = np.array([one.column, -one.height, one.row])
            high = np.array([one.column + one.columns, 0.0, one.row + one.rows])
            outside = np.maximum(np.maximum(low - points, points - high), 0).max(1)
            mine = labels == 1 + one.class_idx
            assert outside[mine].max(initial=0) < 1e-3
            # Whoever touches the object's body is labelled; the floor and the ceiling meet it in a line.
            body = (outside < 1e-6) & (points[:, 1] < -0.01) & (points[:, 1] > 0.01 - one.height)
            assert mine[body].all()
            seen_classes += int(mine.any())
    assert seen_classes > 12


def test_a_ceiling_over_a_bench_is_no_bench() -> None:
    maze = room_with("bench")
    eye, east = torch.tensor([[3.5, -EYE_HEIGHT, 5.5]]).double(), torch.tensor([np.pi / 2]).double()
    c2w = look(eye.expand(2, 3), east.expand(2), torch.tensor([0.0, 0.4]).double())
    depth, seen = cast_classes(maze, c2w, K, width=64, height=48)
    points = unproject(depth.double(), c2w, K.double())
    over = (points[..., 0] > 5) & (points[..., 0] < 7) & (points[..., 2] > 5) & (points[..., 2] < 6)
    assert (over & (points[..., 1] < -2.9)).any(), "the ceiling above it is in view"
    assert seen.any()
    assert (points[seen > 0][:, 1] >= -0.5 - 1e-4).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_lead_around_walls(shape: str) -> None:
    maze = room_with(shape)
    red, length = maze.objects[0].class_idx, SIZES[shape][1]
    distances = GoalDistances(maze)
    at = distances.at(np.array([[2.0, 5.5], [5.5, 4.5], [6.25 + length, 5.5], [2.0, 1.5]]))
    assert at.shape == (4, len(CLASSES))
    assert at[0, red] == pytest.approx(5 - 2.0 - 0.75, abs=0.01), "straight ahead, until 0.25 m are left"
    assert at[1, red] == 0
    assert at[2, red] == pytest.approx(0.5, abs=0.01)
    assert at[3, red] > 5.5, "the wall is in the way"
    assert np.isinf(np.delete(at, red, 1)).all()


@pytest.mark.parametrize("seed", range(4))
def test_distances_change_no_faster_than_one_walks(seed: int) -> None:
    maze = generate_maze(seed, MAZES["plain-objects"])
    distances, rng = GoalDistances(maze), np.random.default_rng(seed)
    points = places(maze, 200, seed)
    near = points + rng.uniform(-0.2, 0.2, points.shape)
    stands = clearance(maze, near) > 0.5
    here, there = distances.at(points[stands]), distances.at(near[stands])
    walked = np.linalg.norm(near - points, axis=1)[stands]
    for one in maze.objects:
        change = np.abs(here[:, one.class_idx] - there[:, one.class_idx])
        assert np.isfinite(change).all(), "every object can be reached from everywhere"
        assert (change <= 1.1 * walked + 0.3 * STEP).all()
        apart = gap(one, points[stands])
        assert (here[:, one.class_idx] >= apart - 0.75 - 1e-4).all(), "no shorter than the straight way"
    assert here[np.isfinite(here)].max() > 8
    assert stands.sum() > 100


@pytest.mark.sim
def test_pictures_show_objects_where_the_segmentation_says(sims: None) -> None:
    """The middle of an object's pixels has its colour, brighter or darker by the light; other pixels have not."""
    colours = {"red": (1, 0, 0), "green": (0.45, 1, 0.42), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
    world, found = DoomDynamics(1, spec=WorldSpec(maze="plain-objects")), []
    for seed in range(12):
        world.reset(seeds=[0], starts=[seed])
        maze = world.mazes[0]
        assert maze is not None
        chunk = world.follow(views(maze, 5, seed)[None])
        assert "segmentation" in chunk.signals
        frames, seen = chunk.frames[0].numpy(), chunk.signals["segmentation"][0].numpy()
        assert seen.shape == frames.shape[:3]
        for one in maze.objects:
            mine = seen == 1 + one.class_idx
            if mine.sum() < 120:
                continue
            colour = np.median(frames[mine], 0).astype(float)
            expected = np.array(colours[one.colour])
            cosine = colour @ expected / np.linalg.norm(colour) / np.linalg.norm(expected)
            assert cosine > 0.97, (seed, one, colour)
            found.append(one.colour)
    world.close()
    assert set(found) == set(COLOURS)
