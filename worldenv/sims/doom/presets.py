"""Mazes by name: what ``WorldSpec.maze`` refers to."""

from __future__ import annotations

from .maze import MazeConfig

MAZES: dict[str, MazeConfig] = {
    "classic": MazeConfig(),
    "classic-objects": MazeConfig(objects=(2, 4)),
    "plain-objects": MazeConfig(style="plain", objects=(2, 4), light_min=215),
}
"""``classic`` mazes are those of the first worlds; ``-objects`` hold two to four goal objects."""


def maze_config(name: str) -> MazeConfig:
    """Return the config of the mazes with this name.

    Raises:
        ValueError: if there are none.
    """
    if name not in MAZES:
        raise ValueError(f"maze={name!r} is unknown; choose one of {', '.join(MAZES)}")
    return MAZES[name]
