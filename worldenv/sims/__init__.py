"""Simulators: ground truth to learn from and to compare with."""

from .distance import GoalDistances
from .doom import TEST_SEEDS, TRAIN_SEEDS, DoomDynamics
from .generate import generate_maze
from .maze import Maze, MazeConfig, clearance, corners, describe
from .objects import CLASSES, COLOURS, SHAPES, GoalObject
from .presets import MAZES
from .raycast import cast_classes, cast_depth
from .row import FREEDOOM_MAPS

__all__ = [
    "CLASSES",
    "COLOURS",
    "FREEDOOM_MAPS",
    "MAZES",
    "SHAPES",
    "TEST_SEEDS",
    "TRAIN_SEEDS",
    "DoomDynamics",
    "GoalDistances",
    "GoalObject",
    "Maze",
    "MazeConfig",
    "cast_classes",
    "cast_depth",
    "clearance",
    "corners",
    "describe",
    "generate_maze",
]
