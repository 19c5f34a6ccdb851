"""Goal objects: a colour, which is a paint of its own (``paint.PAINTS``), and a shape made of whole tiles."""

from __future__ import annotations

from dataclasses import dataclass

from ...dynamics.labels import CLASSES

SIZES: dict[str, tuple[int, int, float | None]] = {"cube": (1, 1, 1.0), "column": (1, 1, None), "bench": (1, 2, 0.5)}
"""Tiles along both sides of each shape (either way round) and height in metres, None up to the ceiling."""


@dataclass(frozen=True, kw_only=True)
class GoalObject:
    """A solid thing that a task can ask for."""

    colour: str
    """One of ``dynamics.labels.COLOURS``."""
    shape: str
    """One of ``dynamics.labels.SHAPES``."""
    row: int
    """First row (z)."""
    column: int
    """First column (x)."""
    rows: int
    """Extent along z in tiles."""
    columns: int
    """Extent along x in tiles."""
    height: float
    """Metres from the floor to its top."""

    @property
    def name(self) -> str:
        """Name of its class."""
        return f"{self.colour} {self.shape}"

    @property
    def class_idx(self) -> int:
        """Index of its class in ``dynamics.labels.CLASSES``."""
        return CLASSES.index(self.name)

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of its footprint, x and z in metres."""
        return self.column + self.columns / 2, self.row + self.rows / 2

    @property
    def tiles(self) -> tuple[slice, slice]:
        """Index of its tiles in a map array."""
        return slice(self.row, self.row + self.rows), slice(self.column, self.column + self.columns)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Its footprint: least x and z, largest x and z in metres."""
        return float(self.column), float(self.row), float(self.column + self.columns), float(self.row + self.rows)
