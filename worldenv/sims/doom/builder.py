"""The builder of mazes: rooms, corridors, props, one after the other on the arrays of a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .maze import Landmark, Maze, MazeConfig, Room, passable
from .textures import CEILINGS, CRATES, FLATS, WALLS, colour_of

SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))


class Builder:
    """Arrays under construction; every random draw comes from one generator in a fixed order."""

    def __init__(self, seed: int, config: MazeConfig) -> None:
        n = config.size
        self.seed, self.config = seed, config
        self.rng = np.random.default_rng(seed)
        self.rooms: list[Room] = []
        self.landmarks: list[Landmark] = []
        self.names: list[str] = []
        self.solid = np.ones((n, n), bool)
        self.floor = np.zeros((n, n), np.float32)
        self.ceiling = np.zeros((n, n), np.float32)
        self.light = np.zeros((n, n), np.uint8)
        self.wall, self.side, self.floor_texture, self.ceiling_texture = (
            np.full((n, n), -1, np.int16) for _ in range(4)
        )
        self.themes = self._themes()

    def _themes(self) -> list[tuple[str, str, str]]:
        """Shuffle wall textures so that neighbours in the list differ in colour; floors differ too."""
        walls = []
        for _ in range(3):
            colours = list(WALLS)
            self.rng.shuffle(colours)
            walls += [(colour, self._pick(WALLS[colour])) for colour in colours]
        return [(wall, self._flat(colour), self._ceiling()) for colour, wall in walls]

    def _pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def _flat(self, avoid: str) -> str:
        return self._pick(FLATS[self._pick([colour for colour in FLATS if colour != avoid])])

    def _ceiling(self) -> str:
        return self._pick(CEILINGS[self._pick(list(CEILINGS))])

    def _id(self, texture: str) -> int:
        if texture not in self.names:
            self.names.append(texture)
        return self.names.index(texture)

    def _carve(self, room: Room) -> None:
        """Open the rectangle's solid tiles and give them its look; open tiles keep theirs."""
        tiles = room.tiles
        new = self.solid[tiles].copy()
        light = self._light()
        for array, value in (
            (self.wall, self._id(room.wall)),
            (self.floor_texture, self._id(room.floor)),
            (self.ceiling_texture, self._id(room.ceiling)),
            (self.ceiling, room.height),
            (self.light, light),
            (self.solid, False),
        ):
            array[tiles][new] = value

    def _light(self) -> int:
        """Draw the light level of what is carved next."""
        return int(self.rng.integers(self.config.light_min, 256))

    def _room(self, row: int, column: int, rows: int, columns: int, theme: int, heights: tuple[float, float]) -> Room:
        wall, floor, ceiling = self.themes[theme % len(self.themes)]
        height = float(np.round(self.rng.uniform(*heights) * 4) / 4)
        return Room(
            row=row,
            column=column,
            rows=rows,
            columns=columns,
            wall=wall,
            floor=floor,
            ceiling=ceiling,
            height=height,
        )

    def place_rooms(self) -> None:
        """Throw rectangles at the map and keep those that leave a tile of rock between them."""
        config, rng = self.config, self.rng
        for _ in range(40 * config.num_rooms):
            rows, columns = (int(v) for v in rng.integers(config.room_min, config.room_max + 1, 2))
            row, column = (int(rng.integers(1, max(config.size - extent, 2))) for extent in (rows, columns))
            if max(row + rows, column + columns) >= config.size:
                continue
            if not self.solid[row - 1 : row + rows + 1, column - 1 : column + columns + 1].all():
                continue
            room = self._room(row, column, rows, columns, len(self.rooms), (3.0, 6.0))
            self._carve(room)
            self.rooms.append(room)
            if len(self.rooms) == config.num_rooms:
                break

    def join_rooms(self) -> None:
        """Join the rooms by a shortest tree of corridors, then close loops with the next shortest ones."""
        centres = np.array([room.centre for room in self.rooms])
        distance = np.abs(centres[:, None] - centres[None]).sum(-1)
        pairs = sorted(
            ((int(distance[a, b]), a, b) for a in range(len(centres)) for b in range(a)),
            key=lambda pair: pair[0],
        )
        group, extra = list(range(len(centres))), self.config.extra_corridors
        for _, a, b in pairs:
            if group[a] != group[b]:
                old, new = group[a], group[b]
                group = [new if g == old else g for g in group]
            elif extra > 0:
                extra -= 1
            else:
                continue
            self._dig(self.rooms[a].centre, self.rooms[b].centre)

    def _dig(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Dig an L-shaped corridor between two tiles."""
        width = int(self.rng.integers(self.config.corridor_min, self.config.corridor_max + 1))
        theme = len(self.rooms) + int(self.rng.integers(2))
        (i0, j0), (i1, j1) = (start, end) if self.rng.random() < 0.5 else (end, start)
        limit = self.config.size - 1
        top, left = min(i1, limit - width), min(j0, limit - width)
        rows = abs(i1 - i0) + width
        legs = (
            (min(i0, i1), left, min(rows, limit - min(i0, i1)), width),
            (top, min(j0, j1), width, min(abs(j1 - j0) + width, limit - min(j0, j1))),
        )
        for leg in legs:
            self._carve(self._room(*leg, theme, (2.75, 4.0)))

    def furnish(self, room: Room) -> None:
        """Put a rug, a panel, an alcove and props into a room; props never cut the map in two."""
        if self.rng.random() < 0.5 and min(room.rows, room.columns) >= 5:
            self._rug(room)
        self._panel(room)
        if self.rng.random() < 0.6:
            self._alcove(room)
        for _ in range(int(self.rng.integers(1, self.config.props_per_room + 1))):
            self._prop(room)

    def _mark(self, kind: str, texture: str, row: int, column: int) -> None:
        self.landmarks.append(Landmark(kind=kind, texture=texture, row=row, column=column))

    def _accent(self, room: Room) -> str:
        return self._pick(WALLS[self._pick([colour for colour in WALLS if colour != colour_of(room.wall)])])

    def _rug(self, room: Room) -> None:
        texture = self._flat(colour_of(room.floor))
        tiles = (
            slice(room.row + 1, room.row + room.rows - 1),
            slice(room.column + 1, room.column + room.columns - 1),
        )
        self.floor_texture[tiles] = self._id(texture)
        if self.rng.random() < 0.5:
            self.ceiling[tiles] = room.height + 0.5
        self._mark("rug", texture, room.row + 1, room.column + 1)

    def _wall_run(self, room: Room, length: int, depth: int) -> tuple[slice, slice] | None:
        """Choose a run of wall beside the room, ``depth`` tiles thick; None where it would leave the map."""
        di, dj = SIDES[int(self.rng.integers(4))]
        if di:
            offset = int(self.rng.integers(0, max(room.columns - length, 0) + 1))
            columns = slice(room.column + offset, room.column + min(offset + length, room.columns))
            rows = (
                slice(room.row - depth, room.row)
                if di < 0
                else slice(room.row + room.rows, room.row + room.rows + depth)
            )
        else:
            offset = int(self.rng.integers(0, max(room.rows - length, 0) + 1))
            rows = slice(room.row + offset, room.row + min(offset + length, room.rows))
            left = room.column - depth if dj < 0 else room.column + room.columns
            columns = slice(left, left + depth)
        inside = rows.start >= 1 and columns.start >= 1 and max(rows.stop, columns.stop) < self.config.size
        return (rows, columns) if inside else None

    def _panel(self, room: Room) -> None:
        """Give a stretch of wall another texture."""
        run = self._wall_run(room, int(self.rng.integers(2, 5)), 1)
        texture = self._accent(room)
        if run is not None and self.solid[run].any():
            self.side[run][self.solid[run]] = self._id(texture)
            self._mark("panel", texture, run[0].start, run[1].start)

    def _alcove(self, room: Room) -> None:
        """Dig a niche one tile deep and two wide into solid rock."""
        run = self._wall_run(room, 2, 1)
        if run is None:
            return
        rows, columns = run
        around = self.solid[rows.start - 1 : rows.stop + 1, columns.start - 1 : columns.stop + 1].copy()
        ours = np.zeros_like(self.solid)
        ours[room.tiles] = True
        if not (around | ours[rows.start - 1 : rows.stop + 1, columns.start - 1 : columns.stop + 1]).all():
            return
        niche = Room(
            row=rows.start,
            column=columns.start,
            rows=rows.stop - rows.start,
            columns=columns.stop - columns.start,
            wall=self._accent(room),
            floor=self._flat(""),
            ceiling=room.ceiling,
            height=min(room.height, 2.5),
        )
        self._carve(niche)
        self._mark("alcove", niche.wall, niche.row, niche.column)

    def _prop(self, room: Room) -> None:
        """Stand a pillar or a low block in the room, unless it would cut the way."""
        rows, columns = ((1, 1), (1, 2), (2, 1), (2, 2))[int(self.rng.integers(4))]
        pillar = bool(self.rng.random() < 0.5)
        row = room.row + int(self.rng.integers(0, room.rows - rows + 1))
        column = room.column + int(self.rng.integers(0, room.columns - columns + 1))
        height = float(np.round(self.rng.uniform(0.5, 1.2) * 8) / 8)
        crate = self._pick(CRATES[self._pick(list(CRATES))])
        texture = self._accent(room) if pillar or self.rng.random() < 0.5 else crate
        top = self._flat("")
        tiles = (slice(row, row + rows), slice(column, column + columns))
        if self.solid[tiles].any() or self.floor[tiles].any() or not self._passable_without(tiles):
            return
        self.side[tiles] = self._id(texture)
        if pillar:
            self.solid[tiles] = True
        else:
            self.floor[tiles] = height
            self.floor_texture[tiles] = self._id(top)
        self._mark("pillar" if pillar else "block", texture, row, column)

    def _passable_without(self, tiles: tuple[slice, slice]) -> bool:
        """Whether ground two tiles wide still forms one region when a prop takes these tiles."""
        free = ~self.solid & (self.floor == 0)
        free[tiles] = False
        return passable(free)

    def finish(self) -> Maze:
        """Freeze the arrays into a Maze."""
        return Maze(
            seed=self.seed,
            solid=self.solid,
            floor=self.floor,
            ceiling=self.ceiling,
            wall=self.wall,
            side=self.side,
            floor_texture=self.floor_texture,
            ceiling_texture=self.ceiling_texture,
            light=self.light,
            textures=tuple(self.names),
            rooms=tuple(self.rooms),
            landmarks=tuple(self.landmarks),
        )
