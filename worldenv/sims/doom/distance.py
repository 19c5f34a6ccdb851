"""Walking distances to goal objects over the free ground of a maze."""

from __future__ import annotations

import numpy as np
from skimage.graph import MCP_Geometric

from ...dynamics.labels import CLASSES
from .maze import Array, Maze
from .objects import GoalObject

STEP = 0.25
"""Metres between neighbouring points of the ground; the middle of a passage one tile wide is one of them."""
BODY = 0.5
"""Half the player's width in metres."""
BESIDE = BODY + STEP
"""Whoever is no further than this from an object (the larger of |dx| and |dz|) stands beside it."""
_TOLERANCE = 0.02
_REACH = 2
"""Points looked at on either side of a place, each way."""


class GoalDistances:
    """Distance fields of one maze: one for each class of goal objects, over points ``STEP`` apart."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        axis = STEP * np.arange(round(len(maze.solid) / STEP) + 1)
        x, z = np.meshgrid(axis, axis)
        points = np.stack([x.ravel(), z.ravel()], 1)
        self.open = _open(maze, axis)
        self.fields = np.full((len(CLASSES), *self.open.shape), np.inf, np.float32)
        for one in maze.objects:
            beside = self.open & (gap(one, points) <= BESIDE).reshape(self.open.shape)
            self.fields[one.class_idx] = np.minimum(self.fields[one.class_idx], _spread(beside, self.open))

    def at(
        self,
        points: Array,  # (P, 2) x and z in metres
    ) -> Array:
        """Return the metres to walk until one stands beside the nearest object of each class, (P, classes) float32.

        Infinite where the maze has none, or no way leads there.
        """
        near = np.floor(points / STEP).astype(int)
        offsets = np.arange(1 - _REACH, 1 + _REACH)
        last = len(self.open) - 1
        column, row = (np.clip(near[:, axis, None] + offsets, 0, last) for axis in (0, 1))
        apart = np.hypot(
            STEP * column[:, None, :] - points[:, 0, None, None], STEP * row[:, :, None] - points[:, 1, None, None]
        )
        through = self.fields[:, row[:, :, None], column[:, None, :]] + apart
        distances: Array = through.min((2, 3)).T.astype(np.float32)
        for one in self.maze.objects:
            distances[gap(one, points) <= BESIDE, one.class_idx] = 0
        return distances


def gap(
    one: GoalObject,
    points: Array,  # (P, 2) x and z in metres
) -> Array:
    """Return the larger of |dx| and |dz| from each point to an object, (P,), 0 inside it."""
    dx = np.abs(points[:, 0] - one.centre[0]) - one.columns / 2
    dz = np.abs(points[:, 1] - one.centre[1]) - one.rows / 2
    larger: Array = np.maximum(np.maximum(dx, dz), 0)
    return larger


def _open(maze: Maze, axis: Array) -> Array:
    """Tell where the player may stand on the grid that ``axis`` spans, rows (z) and columns (x)."""
    last = len(maze.free) - 1
    low, high = (np.clip(np.floor(axis + side * (BODY - _TOLERANCE)).astype(int), 0, last) for side in (-1, 1))
    free: Array = maze.free
    result: Array = np.logical_and.reduce(
        [free[np.ix_(rows, columns)] for rows in (low, high) for columns in (low, high)]
    )
    return result


def _spread(
    goals: Array,  # (N, N) bool
    ground: Array,  # (N, N) bool
) -> Array:
    """Return the length of the shortest 8-connected way to a goal from every point, (N, N) float32."""
    starts = np.argwhere(goals)
    if not len(starts):
        return np.full(ground.shape, np.inf, np.float32)
    costs, _ = MCP_Geometric(np.where(ground, STEP, -1.0), fully_connected=True).find_costs(starts.tolist())
    return np.asarray(costs, np.float32)
