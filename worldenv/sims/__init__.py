"""Simulators: ground truth to learn from and to compare with."""

from .doom.distance import GoalDistances
from .doom.generate import generate_maze
from .doom.maze import Maze, MazeConfig, clearance, corners, describe
from .doom.objects import GoalObject
from .doom.presets import MAZES
from .doom.raycast import cast_classes, cast_depth
from .doom.row import FREEDOOM_MAPS
from .doom.sim import TEST_SEEDS, TRAIN_SEEDS, DoomDynamics

__all__ = [
    "FREEDOOM_MAPS",
    "MAZES",
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
