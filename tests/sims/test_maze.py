import dataclasses

import numpy as np
import pytest
import torch

from worldenv.geometry.camera import intrinsics
from worldenv.geometry.pose import look
from worldenv.sims import TEST_SEEDS, TRAIN_SEEDS, Maze, MazeConfig, cast_depth, clearance, describe, generate_maze
from worldenv.sims.doom.maze import EYE_HEIGHT
from worldenv.sims.doom.pwad import SLOT_BYTES, read_lump, textmap, write_lumps, write_slot
from worldenv.sims.doom.raycast import cast_rays
from worldenv.sims.doom.textures import colour_of

K = intrinsics(64, 48, fov_deg=90)


def box(height: float = 3.0) -> Maze:
    """An 8 m square room with a 1 m high block in the middle of it."""
    n = 10
    solid = np.ones((n, n), bool)
    solid[1:-1, 1:-1] = False
    floor = np.zeros((n, n), np.float32)
    floor[4:6, 4:6] = 1.0
    zero = np.zeros((n, n), np.int16)
    return Maze(
        seed=0,
        solid=solid,
        floor=floor,
        ceiling=np.full((n, n), height, np.float32),
        wall=zero,
        side=zero - 1,
        floor_texture=zero,
        ceiling_texture=zero,
        light=np.full((n, n), 255, np.uint8),
        textures=("GRAY1",),
    )


def random_poses(maze: Maze, count: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    tiles = np.argwhere(maze.free)
    points = (tiles[rng.integers(len(tiles), size=20 * count)] + rng.random((20 * count, 2)))[:, ::-1]
    points = points[clearance(maze, points) > 0.5][:count]
    position = torch.tensor(np.stack([points[:, 0], np.full(count, -EYE_HEIGHT), points[:, 1]], 1))
    return look(position, torch.tensor(rng.uniform(-np.pi, np.pi, count)))


def arrays(maze: Maze) -> list[np.ndarray]:
    values = [getattr(maze, field.name) for field in dataclasses.fields(maze)]
    return [value for value in values if isinstance(value, np.ndarray)]


def test_same_seed_same_map_and_other_seeds_other_maps() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(arrays(generate_maze(7)), arrays(generate_maze(7))))
    assert not set(TRAIN_SEEDS[:: 10**5]) & set(TEST_SEEDS)
    texts = [textmap(generate_maze(seed)) for seed in (*TRAIN_SEEDS[:20], *TEST_SEEDS[:20])]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("seed", range(12))
def test_map_is_closed_connected_and_named(seed: int) -> None:
    maze = generate_maze(seed)
    border = np.ones_like(maze.solid)
    border[1:-1, 1:-1] = False
    assert maze.solid[border].all()
    assert (maze.ceiling[~maze.solid] >= maze.floor[~maze.solid] + 1.25).all()
    assert (maze.ceiling[maze.free] >= 2.5).all()
    reached = np.zeros_like(maze.free)
    reached[tuple(np.argwhere(maze.free)[0])] = True
    for _ in range(maze.free.size):
        grown = reached.copy()
        for axis in (0, 1):
            grown |= np.roll(reached, 1, axis) | np.roll(reached, -1, axis)
        grown &= maze.free
        if (grown == reached).all():
            break
        reached = grown
    # Nothing but a single tile behind a prop may be out of reach.
    assert reached.sum() >= 0.97 * maze.free.sum()
    assert len(maze.rooms) >= 2
    assert describe(maze).startswith(f"A maze of {len(maze.rooms)} rooms")
    assert all(colour_of(name) for name in maze.textures)
    assert len(textmap(maze)) < SLOT_BYTES


def test_config_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="size=8"):
        MazeConfig(size=8)
    with pytest.raises(ValueError, match=r"corridor widths 3\.\.9"):
        MazeConfig(corridor_max=9)
    with pytest.raises(ValueError, match="not curated"):
        colour_of("NOPE")


def test_views_are_deep() -> None:
    depth = []
    for seed in range(20):
        maze = generate_maze(seed)
        depth.append(cast_depth(maze, random_poses(maze, 16, seed), K, width=64, height=48).flatten(1))
    assert torch.cat(depth).median(1).values.median() >= 3


def test_depth_of_a_known_room() -> None:
    maze = box()
    # From the middle of the west wall, looking east: the far wall is 7 m away, behind the block's top edge.
    c2w = look(torch.tensor([[2.0, -EYE_HEIGHT, 3.0]]).double(), torch.tensor([np.pi / 2]))
    depth = cast_depth(maze, c2w, K, width=64, height=48)[0]
    assert depth[23, 31] == pytest.approx(7.0, abs=1e-4)
    # The lowest row looks down by 23.5 / 32: it meets the floor at eye height over that slope.
    assert depth[47, 31] == pytest.approx(EYE_HEIGHT / (23.5 / 32), rel=1e-4)
    assert depth[0, 31] == pytest.approx((3 - EYE_HEIGHT) / (23.5 / 32), rel=1e-4)
    towards_block = cast_rays(maze, np.array([[2.0, -0.5, 5.0]]), np.array([[1.0, 0.0, 0.0]]))
    over_block = cast_rays(maze, np.array([[2.0, -1.25, 5.0]]), np.array([[1.0, 0.1, 0.0]]))
    assert towards_block[0] == pytest.approx(2.0)
    assert over_block[0] == pytest.approx(2.5, rel=1e-5)
    with pytest.raises(ValueError, match="outside the map"):
        cast_rays(maze, np.array([[-1.0, -1.0, 5.0]]), np.array([[1.0, 0.0, 0.0]]))


def test_clearance_is_the_distance_of_the_player_square() -> None:
    points = np.array([[1.5, 1.5], [3.0, 3.0], [4.5, 4.5], [2.0, 8.5]])
    assert clearance(box(), points) == pytest.approx([0.5, 1.0, 0.0, 0.5])


def test_pwad_round_trip(tmp_path) -> None:
    maze, path = generate_maze(0), tmp_path / "maps.wad"
    write_slot(path, maze)
    assert read_lump(path, "TEXTMAP").decode().rstrip() == textmap(maze)
    with pytest.raises(ValueError, match="no lump"):
        read_lump(path, "NOSUCH")
    write_lumps(path, [("ONE", b"a"), ("TWO", b"b"), ("ONE", b"cd")])
    assert read_lump(path, "ONE") == b"cd", "the last of a name"


def test_equal_edges_merge_into_one_line() -> None:
    text = textmap(box())
    # Four outer walls and the four sides of the block, whatever their length in tiles.
    assert text.count("linedef{") == 8
    assert text.count("sector{") == 2
