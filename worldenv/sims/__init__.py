"""Simulators: ground truth to learn from and to compare with."""

from .doom import TEST_SEEDS, TRAIN_SEEDS, DoomDynamics
from .generate import generate_maze
from .maze import Maze, MazeConfig, clearance, corners, describe
from .raycast import cast_depth
from .row import FREEDOOM_MAPS

__all__ = [
    "FREEDOOM_MAPS",
    "TEST_SEEDS",
    "TRAIN_SEEDS",
    "DoomDynamics",
    "Maze",
    "MazeConfig",
    "cast_depth",
    "clearance",
    "corners",
    "describe",
    "generate_maze",
]
