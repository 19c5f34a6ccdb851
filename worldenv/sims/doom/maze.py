"""Procedural maps with exactly known geometry: rooms, corridors and landmarks on a grid of 1 m tiles.

Tile (i, j) covers x in [j, j + 1] and z in [i, i + 1] metres; y points down and the walkable floor is y = 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .objects import GoalObject
from .textures import colour_of

Array = npt.NDArray[Any]

EYE_HEIGHT = 41 / 32
"""Metres from the floor to the camera: 41 map units."""


@dataclass(frozen=True, kw_only=True)
class MazeConfig:
    """What the generator may build."""

    size: int = 32
    """Tiles along each side, the solid border included."""
    num_rooms: int = 8
    """Rooms to try for; a crowded map may hold fewer, never fewer than two."""
    room_min: int = 6
    """Shortest room side in tiles."""
    room_max: int = 10
    """Longest room side in tiles."""
    corridor_min: int = 3
    """Narrowest corridor in tiles; the player is one tile wide."""
    corridor_max: int = 5
    """Widest corridor in tiles."""
    extra_corridors: int = 2
    """Corridors beyond the tree that joins all rooms: they close loops."""
    props_per_room: int = 2
    """Most pillars and blocks tried in one room."""
    light_min: int = 170
    """Darkest light level of a room, of 255."""
    style: Literal["classic", "plain"] = "classic"
    """``classic``: every room its own textures and light; ``plain``: one look and one light a maze, few landmarks."""
    objects: tuple[int, int] = (0, 0)
    """Fewest and most goal objects of a maze."""

    def __post_init__(self) -> None:
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f"objects={self.objects} is no range; pass the fewest and the most")
        if self.size < 3 * self.room_min:
            raise ValueError(f"size={self.size} cannot hold two rooms; pass size >= {3 * self.room_min}")
        if not 2 <= self.corridor_min <= self.corridor_max < self.room_min + 1:
            raise ValueError(
                f"corridor widths {self.corridor_min}..{self.corridor_max} do not fit; "
                f"pass 2 <= corridor_min <= corridor_max <= room_min={self.room_min}"
            )


@dataclass(frozen=True, kw_only=True)
class Room:
    """A rectangle of tiles, its look and its ceiling."""

    row: int
    """First row (z)."""
    column: int
    """First column (x)."""
    rows: int
    """Extent along z in tiles."""
    columns: int
    """Extent along x in tiles."""
    wall: str
    """Wall texture."""
    floor: str
    """Floor texture."""
    ceiling: str
    """Ceiling texture."""
    height: float
    """Ceiling height in metres."""

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the middle tile."""
        return self.row + self.rows // 2, self.column + self.columns // 2

    @property
    def tiles(self) -> tuple[slice, slice]:
        """Index of the room's tiles in a map array."""
        return slice(self.row, self.row + self.rows), slice(self.column, self.column + self.columns)


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """A prop that makes a place recognisable."""

    kind: str
    """``pillar``, ``block``, ``panel``, ``alcove`` or ``rug``."""
    texture: str
    """Its texture."""
    row: int
    """First row (z)."""
    column: int
    """First column (x)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Maze:
    """One map: arrays over tiles (N, N), indexed [row (z), column (x)]."""

    seed: int
    """Seed of the generator."""
    solid: Array
    """(N, N) bool: rock, walls and pillars."""
    floor: Array
    """(N, N) float32: floor height in metres, 0 where one can walk."""
    ceiling: Array
    """(N, N) float32: ceiling height in metres."""
    wall: Array
    """(N, N) int16: texture of walls seen from this tile, index into ``textures``."""
    side: Array
    """(N, N) int16: texture shown to neighbours (pillar, panel, block), -1 for the neighbour's ``wall``."""
    floor_texture: Array
    """(N, N) int16 index into ``textures``."""
    ceiling_texture: Array
    """(N, N) int16 index into ``textures``."""
    light: Array
    """(N, N) uint8 light level."""
    textures: tuple[str, ...]
    """Names that the index arrays refer to."""
    rooms: tuple[Room, ...] = ()
    """Rooms in order of generation."""
    landmarks: tuple[Landmark, ...] = ()
    """Props in order of generation."""
    objects: tuple[GoalObject, ...] = ()
    """Goal objects in order of placement."""

    @property
    def free(self) -> Array:
        """(N, N) bool: tiles the player may stand on."""
        free: Array = ~self.solid & (self.floor == 0)
        return free

    @property
    def classes(self) -> Array:
        """(N, N) uint8: 0 where no goal object stands, else 1 + the index of its class."""
        classes = np.zeros(self.solid.shape, np.uint8)
        for one in self.objects:
            classes[one.tiles] = 1 + one.class_idx
        return classes


def clearance(
    maze: Maze,
    points: Array,  # (P, 2) x and z in metres
) -> Array:
    """Return the distance (P,) from each point to the nearest tile that is not free, 0 inside one.

    The distance is the larger of |dx| and |dz|, as the player's footprint is a square.
    """
    rows, columns = np.nonzero(~maze.free)
    x, z = points[:, :1], points[:, 1:]
    dx = np.maximum(np.abs(x - columns - 0.5) - 0.5, 0)
    dz = np.maximum(np.abs(z - rows - 0.5) - 0.5, 0)
    distance: Array = np.maximum(dx, dz).min(axis=1)
    return distance


def corners(maze: Maze) -> Array:
    """Return the world points (V, 3) where walls turn, at the floor and the ceiling beside them."""
    solid = np.pad(maze.solid, 1, constant_values=True)
    points = []
    for i, j in np.argwhere(~maze.solid):
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            si, sj = 2 * di - 1, 2 * dj - 1
            beside, across = solid[i + 1 + si, j + 1], solid[i + 1, j + 1 + sj]
            if beside == across and (beside or solid[i + 1 + si, j + 1 + sj]):
                points += [(j + dj, -maze.floor[i, j], i + di), (j + dj, -maze.ceiling[i, j], i + di)]
    return np.unique(np.asarray(points, np.float64).reshape(-1, 3), axis=0)


def passable(
    free: Array,  # (N, N) bool
) -> bool:
    """Whether ground two tiles wide forms one region."""
    return connected(free[:-1, :-1] & free[1:, :-1] & free[:-1, 1:] & free[1:, 1:])


def connected(mask: Array) -> bool:
    """Whether the true cells form one 4-connected region."""
    cells = {(int(i), int(j)) for i, j in np.argwhere(mask)}
    if not cells:
        return False
    stack = [cells.pop()]
    while stack:
        i, j = stack.pop()
        for near in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if near in cells:
                cells.remove(near)
                stack.append(near)
    return not cells


def describe(maze: Maze) -> str:
    """Say in one or two sentences what the map holds: rooms, their colours and the landmarks."""
    looks = [f"{colour_of(room.wall)} walls on a {colour_of(room.floor)} floor" for room in maze.rooms]
    counts = Counter(f"{colour_of(mark.texture)} {mark.kind}" for mark in maze.landmarks)
    marks = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.most_common(5))
    rooms = "; ".join(name for name, _ in Counter(looks).most_common(4))
    return (
        f"A maze of {len(maze.rooms)} rooms joined by corridors: {rooms}."
        + (f" Landmarks: {marks}." if marks else "")
        + (f" Objects: {', '.join(one.name for one in maze.objects)}." if maze.objects else "")
    )
