"""Textures of our own: flat paints in squares or panels of 1 m, out of Doom's palette.

Each is a lump of 64x64 palette indices, 2 m wide and high. A darker seam every metre shows motion along the surface;
neighbouring squares or panels differ by a shade.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SIDE = 64
_METRE = 32


@dataclass(frozen=True)
class Paint:
    """What one texture shows, in indices of Doom's palette."""

    colour: str
    """Colour word."""
    face: int
    """Squares of one kind."""
    other: int
    """Squares of the other kind."""
    seam: int
    """Line around each square."""
    width: int = 1
    """Thickness of that line in texels, 32 a metre."""
    panels: bool = False
    """Whether it has upright panels, 2 m tall, in place of squares: calmer on walls, no bricks."""


PAINTS: dict[str, Paint] = {
    "WE_RED": Paint("red", 176, 178, 186, 3),
    "WE_GREEN": Paint("green", 114, 115, 121, 3),
    "WE_BLUE": Paint("blue", 200, 201, 205, 3),
    "WE_YELLO": Paint("yellow", 231, 230, 163, 3),
    "WE_ORANG": Paint("orange", 215, 217, 221, 2),
    "WE_MAGEN": Paint("magenta", 251, 251, 252, 2),
    "WE_PURPL": Paint("purple", 253, 253, 254, 2),
    "WE_BLACK": Paint("black", 107, 106, 103, 2),
    "WL_WHITE": Paint("white", 83, 85, 88, panels=True),
    "WL_GREY": Paint("grey", 93, 95, 98, panels=True),
    "WL_TAN": Paint("tan", 128, 129, 132, panels=True),
    "WL_BROWN": Paint("brown", 70, 71, 73, panels=True),
    "WL_SAGE": Paint("green", 152, 153, 155, panels=True),
    "WL_SKY": Paint("blue", 193, 193, 194, panels=True),
    "FL_PALE": Paint("white", 86, 87, 90),
    "FL_GREY": Paint("grey", 94, 95, 99),
    "FL_SLATE": Paint("grey", 101, 102, 105),
    "FL_TAN": Paint("tan", 130, 131, 135),
    "FL_CREAM": Paint("tan", 48, 49, 52),
    "FL_UMBER": Paint("brown", 138, 139, 142),
}
"""Paints by the name of their lump: of objects and landmarks, of walls, of floors and ceilings."""

PLAIN_THEMES = (
    ("WL_WHITE", "FL_UMBER", "FL_GREY"),
    ("WL_GREY", "FL_TAN", "FL_PALE"),
    ("WL_TAN", "FL_SLATE", "FL_PALE"),
    ("WL_BROWN", "FL_PALE", "FL_TAN"),
    ("WL_SAGE", "FL_CREAM", "FL_SLATE"),
    ("WL_SKY", "FL_GREY", "FL_CREAM"),
)
"""Looks of plain mazes: wall, floor and ceiling."""

LANDMARK_PAINTS = ("WE_ORANG", "WE_MAGEN", "WE_PURPL", "WE_BLACK")
"""Landmarks of plain mazes; no goal object has these colours."""


def object_paint(colour: str) -> str:
    """Return the paint of goal objects of this colour."""
    return next(name for name, paint in PAINTS.items() if paint.colour == colour)


def flat_lumps() -> list[tuple[str, bytes]]:
    """Return all paints as lumps of a PWAD."""
    return [("F_START", b""), *((name, _texels(paint)) for name, paint in PAINTS.items()), ("F_END", b"")]


def _texels(paint: Paint) -> bytes:
    row, column = np.indices((_SIDE, _SIDE))
    tall = _SIDE if paint.panels else _METRE
    odd = (row // tall + column // _METRE) % 2 == 1
    inside = np.minimum(row % tall, column % _METRE)
    outside = np.maximum(row % tall - tall, column % _METRE - _METRE) + _METRE
    seam = (inside < paint.width) | (outside >= _METRE - paint.width)
    texels = np.where(seam, paint.seam, np.where(odd, paint.other, paint.face))
    return texels.astype(np.uint8).tobytes()
