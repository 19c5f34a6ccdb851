"""Mazes by name: what ``WorldSpec.maze`` refers to."""

from __future__ import annotations

from .maze import MazeConfig

MAZES: dict[str, MazeConfig] = {
    "classic": MazeConfig(),
    "classic-objects": MazeConfig(objects=(2, 4)),
    "classic-many": MazeConfig(objects=(6, 8)),
    "plain-objects": MazeConfig(style="plain", objects=(2, 4), light_min=215),
    "plain-many": MazeConfig(style="plain", objects=(6, 8), light_min=215),
}
"""``classic`` mazes were the first; ``-objects`` hold two to four goal objects, ``-many`` up to eight."""


def with_many(name: str) -> str:
    """Return the name of the same mazes with many goal objects in them."""
    return f"{name.partition('-')[0]}-many"


def maze_config(name: str) -> MazeConfig:
    """Return the config of the mazes with this name.

    Raises:
        ValueError: if there are none.
    """
    if name not in MAZES:
        raise ValueError(f"maze={name!r} is unknown; choose one of {', '.join(MAZES)}")
    return MAZES[name]
