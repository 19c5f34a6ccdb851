"""Readers of recordings from elsewhere, by what stands before the colon of their name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..spans import Reader
from .lerobot import LeRobot
from .minari import Minari
from .posed import Nerfstudio, RealEstate10K
from .unlabelled import Unlabelled
from .videos import Videos

IMPORTS: dict[str, Callable[[Path, str], Reader]] = {
    "lerobot": LeRobot,
    "minari": Minari,
    "videos": Videos,
    "unlabelled": Unlabelled,
    "realestate10k": RealEstate10K,
    "nerfstudio": Nerfstudio,
}


def is_import(env: str) -> bool:
    """Tell whether a name stands for a recording from elsewhere."""
    return env.partition(":")[0] in IMPORTS
