"""Write a maze as a Doom PWAD: a MAP01 / TEXTMAP / ENDMAP triple, in UDMF text.

The engine builds the BSP nodes when it loads a map. Doom axes: x = 32 X, y = 32 Z, z = -32 Y; a linedef's
front lies on the right of v1 -> v2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .maze import Maze
from .paint import flat_lumps

UNITS = 32
"""Map units in one metre."""
PLAYER_CLASS = "WorldEnvPlayer"
PLAYER_THRUST = 256
"""Multiplier on the walk and run thrust: 1 of a movement delta is ``PLAYER_THRUST / 2048`` map units."""

SLOT_BYTES = 1 << 18
"""Room for one map's text in a slot file."""

_DECORATE = f"""ACTOR {PLAYER_CLASS} : DoomPlayer
{{
  Player.ForwardMove {PLAYER_THRUST}, {PLAYER_THRUST}
  Player.SideMove {PLAYER_THRUST}, {PLAYER_THRUST}
  Friction 0
  -PICKUP
  +INVULNERABLE
}}
"""
_KEYCONF = f"clearplayerclasses\naddplayerclass {PLAYER_CLASS}\n"

Lump = tuple[str, bytes]


@dataclass(frozen=True)
class _Side:
    """What a linedef shows on one side: sector and the three textures."""

    sector: int
    top: str = "-"
    middle: str = "-"
    bottom: str = "-"


@dataclass(frozen=True)
class _Edge:
    """The look of a tile edge; equal neighbours on one line merge into one linedef."""

    front: _Side
    back: _Side | None
    blocking: bool
    reverse: bool


def write_slot(path: str | Path, maze: Maze) -> None:
    """Write one maze as MAP01 in a file of fixed layout: a running engine reads the next maze from it.

    The engine reads the directory once, and a map's lumps each time it loads the map; blanks pad TEXTMAP to
    one size.

    Raises:
        ValueError: if the map's text is longer than the slot.
    """
    text = textmap(maze).encode("ascii")
    if len(text) > SLOT_BYTES:
        raise ValueError(f"the map takes {len(text)} bytes, a slot has {SLOT_BYTES}; use a smaller MazeConfig.size")
    level = [("MAP01", b""), ("TEXTMAP", text.ljust(SLOT_BYTES)), ("ENDMAP", b"")]
    write_lumps(path, [*player_lumps(), *flat_lumps(), *level])


def player_lumps() -> list[Lump]:
    """Return the lumps that replace the player by one without momentum, pain or pickups."""
    return [("DECORATE", _DECORATE.encode("ascii")), ("KEYCONF", _KEYCONF.encode("ascii"))]


def write_lumps(path: str | Path, lumps: Sequence[Lump]) -> None:
    """Write a PWAD holding these lumps in order."""
    offset, directory = 12, b""
    for name, data in lumps:
        directory += struct.pack("<ii8s", offset, len(data), name.encode("ascii"))
        offset += len(data)
    header = struct.pack("<4sii", b"PWAD", len(lumps), offset)
    Path(path).write_bytes(header + b"".join(data for _, data in lumps) + directory)


def read_lump(path: str | Path, name: str) -> bytes:
    """Read the last lump of this name from a WAD.

    Raises:
        ValueError: if the file holds no such lump.
    """
    with Path(path).open("rb") as file:
        _, count, start = struct.unpack("<4sii", file.read(12))
        file.seek(start)
        directory = file.read(16 * count)
        entries = [struct.unpack_from("<ii8s", directory, 16 * k) for k in range(count)]
        found = [entry for entry in entries if entry[2].rstrip(b"\0") == name.encode("ascii")]
        if not found:
            raise ValueError(f"{path} holds no lump {name}; is it a Doom WAD?")
        file.seek(found[-1][0])
        return file.read(found[-1][1])


def textmap(maze: Maze) -> str:
    """Return the UDMF text of one maze."""
    sectors, sector_of = _sectors(maze)
    vertices: dict[tuple[int, int], int] = {}
    sides: list[str] = []
    lines: list[str] = []
    for (x0, y0), (x1, y1), edge in _runs(maze, sector_of):
        ends = ((x1, y1), (x0, y0)) if edge.reverse else ((x0, y0), (x1, y1))
        v1, v2 = (vertices.setdefault(end, len(vertices)) for end in ends)
        line = f"linedef{{v1={v1};v2={v2};sidefront={len(sides)};dontpegbottom=true;"
        shift = (x0 + y0 if x0 + y0 < x1 + y1 else x1 + y1) if not edge.reverse else -(x1 + y1)
        sides.append(_sidedef(edge.front, UNITS * shift))
        if edge.back is not None:
            line += f"sideback={len(sides)};twosided=true;"
            sides.append(_sidedef(edge.back, UNITS * shift))
        lines.append(line + ("blocking=true;}" if edge.blocking else "}"))
    points = [f"vertex{{x={UNITS * x}.0;y={UNITS * y}.0;}}" for x, y in vertices]
    return "\n".join(['namespace="zdoom";', _player_start(maze), *points, *lines, *sides, *sectors])


def _player_start(maze: Maze) -> str:
    row, column = np.argwhere(maze.free)[0]
    x, y = UNITS * (column + 0.5), UNITS * (row + 0.5)
    skills = "".join(f"skill{k}=true;" for k in range(1, 6))
    return f"thing{{x={x};y={y};type=1;angle=90;single=true;{skills}}}"


def _sectors(maze: Maze) -> tuple[list[str], dict[tuple[int, int], int]]:
    """Number the looks of open tiles; return the sector blocks and the sector of each open tile."""
    numbers: dict[tuple[float, float, int, int, int], int] = {}
    sector_of = {}
    for i, j in np.argwhere(~maze.solid).tolist():
        key = (
            float(maze.floor[i, j]),
            float(maze.ceiling[i, j]),
            int(maze.floor_texture[i, j]),
            int(maze.ceiling_texture[i, j]),
            int(maze.light[i, j]),
        )
        sector_of[i, j] = numbers.setdefault(key, len(numbers))
    blocks = [
        f"sector{{heightfloor={round(UNITS * floor)};heightceiling={round(UNITS * ceiling)};"
        f'texturefloor="{maze.textures[floor_id]}";textureceiling="{maze.textures[ceiling_id]}";lightlevel={light};}}'
        for floor, ceiling, floor_id, ceiling_id, light in numbers
    ]
    return blocks, sector_of


def _sidedef(side: _Side, offset: int) -> str:
    return (
        f'sidedef{{sector={side.sector};offsetx={offset};texturetop="{side.top}";'
        f'texturemiddle="{side.middle}";texturebottom="{side.bottom}";}}'
    )


def _runs(
    maze: Maze, sector_of: dict[tuple[int, int], int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int], _Edge]]:
    """Yield maximal straight runs of equal edges as (start, end, look), in tile corners (x, y)."""
    n = len(maze.solid)
    for line in range(n + 1):
        for vertical in (False, True):
            start, look = 0, None
            for k in range(n + 1):
                # Heading east the right-hand side is south (smaller y); heading north it is east (larger x).
                right, left = ((k, line), (k, line - 1)) if vertical else ((line - 1, k), (line, k))
                edge = _edge(maze, sector_of, right, left) if k < n else None
                if edge != look:
                    if look is not None:
                        yield (((line, start), (line, k), look) if vertical else ((start, line), (k, line), look))
                    start, look = k, edge


def _edge(
    maze: Maze, sector_of: dict[tuple[int, int], int], right: tuple[int, int], left: tuple[int, int]
) -> _Edge | None:
    """Return the look of the edge between two tiles, None where nothing separates them."""
    a, b = sector_of.get(right), sector_of.get(left)
    if a == b:
        return None
    if a is None or b is None:
        near, far, sector = (left, right, b) if a is None else (right, left, a)
        assert sector is not None
        return _Edge(_Side(sector, middle=_texture(maze, near, far)), None, True, reverse=a is None)
    blocking = bool(maze.floor[right] or maze.floor[left])
    front, back = (
        _Side(sector, top=maze.textures[maze.wall[near]], bottom=_texture(maze, near, far))
        for sector, near, far in ((a, right, left), (b, left, right))
    )
    return _Edge(front, back, blocking, reverse=False)


def _texture(maze: Maze, near: tuple[int, int], far: tuple[int, int]) -> str:
    """Texture of the face of ``far`` that is seen from ``near``."""
    inside = all(0 <= k < len(maze.solid) for k in far)
    own = int(maze.side[far]) if inside else -1
    return maze.textures[own if own >= 0 else int(maze.wall[near])]
