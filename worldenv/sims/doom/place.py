"""Placing goal objects in a finished maze."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...dynamics.labels import CLASSES
from .maze import Maze, MazeConfig, Room, passable
from .objects import SIZES, GoalObject
from .paint import object_paint

_STREAM = 7
"""Sets the objects' random numbers apart from the maze's."""


def place_objects(maze: Maze, config: MazeConfig) -> Maze:
    """Put objects of different classes into different rooms; the maze without them stays what it is.

    An object has a free tile all around it inside its room, and never cuts the map in two. A maze without room for
    all of them holds fewer.
    """
    if config.objects[1] == 0:
        return maze
    rng = np.random.default_rng([maze.seed, _STREAM])
    count = int(rng.integers(config.objects[0], config.objects[1] + 1))
    classes, rooms = rng.permutation(len(CLASSES)), rng.permutation(len(maze.rooms))
    for room in rooms:
        if len(maze.objects) == count:
            break
        maze = _place(maze, maze.rooms[room], CLASSES[classes[len(maze.objects)]], rng)
    return maze


def _place(maze: Maze, room: Room, name: str, rng: np.random.Generator) -> Maze:
    """Put one object into a room, in the first of the shuffled places that takes it; the maze as it is if none does."""
    colour, shape = name.split()
    rows, columns, height = SIZES[shape]
    if rng.random() < 0.5:
        rows, columns = columns, rows
    places = np.argwhere(np.ones((max(room.rows - rows - 1, 0), max(room.columns - columns - 1, 0)), bool))
    free = maze.free
    for i, j in rng.permutation(places).tolist():
        row, column = room.row + 1 + i, room.column + 1 + j
        tiles = (slice(row, row + rows), slice(column, column + columns))
        around = free[row - 1 : row + rows + 1, column - 1 : column + columns + 1]
        without = free.copy()
        without[tiles] = False
        if around.all() and passable(without):
            up = float(maze.ceiling[tiles].min()) if height is None else height
            one = GoalObject(colour=colour, shape=shape, row=row, column=column, rows=rows, columns=columns, height=up)
            return _with_object(maze, one, full=height is None)
    return maze


def _with_object(maze: Maze, one: GoalObject, *, full: bool) -> Maze:
    """Return the maze with the object's tiles in its paint, up to the ceiling or raised by its height."""
    texture = object_paint(one.colour)
    names = maze.textures if texture in maze.textures else (*maze.textures, texture)
    side, solid, floor, top = (array.copy() for array in (maze.side, maze.solid, maze.floor, maze.floor_texture))
    side[one.tiles] = names.index(texture)
    if full:
        solid[one.tiles] = True
    else:
        floor[one.tiles], top[one.tiles] = one.height, names.index(texture)
    return replace(
        maze, objects=(*maze.objects, one), textures=names, side=side, solid=solid, floor=floor, floor_texture=top
    )
