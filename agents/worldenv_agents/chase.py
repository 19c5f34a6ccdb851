"""A policy that looks: it turns towards the colour of the class it is asked for and walks; else it looks around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from worldenv.dynamics.labels import CLASSES, COLOURS

from .scripted import FORWARD, LEFT, RIGHT, Wander

PURE = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
"""Which channels each colour of a goal object has."""
BRIGHT, DULL = 130, 0.45
"""The least that a channel it has shows of 255, and the most of that which the others do."""
ENOUGH = 0.01
"""Share of the picture that has to have the colour."""


class Chase:
    """Walks to the colour that ``obs["goal"]`` asks for, with ``basic`` actions; wanders while it sees none.

    A wall that has the colour deceives it, and of an object's shape it knows nothing.
    """

    def __init__(self, *, turn: float, move: float, seed: int = 0) -> None:
        """Make a policy for an env whose steps turn by ``turn`` radians and walk ``move`` metres."""
        self.turn, self.elsewhere = turn, Wander(turn=turn, move=move, seed=seed)

    def reset(self, num_envs: int) -> None:
        """Begin to look."""
        self.elsewhere.reset(num_envs)

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return one action per env."""
        pictures, goals = np.asarray(obs["image"]), np.asarray(obs["goal"]).argmax(1)
        action = self.elsewhere.act(obs, info)
        for row, (picture, goal) in enumerate(zip(pictures, goals, strict=True)):
            found = coloured(picture, CLASSES[goal].split()[0])
            if found.mean() > ENOUGH:
                width = found.shape[1]
                aside = float((found.sum(0) * (np.arange(width) + 0.5)).sum() / found.sum()) / (width / 2) - 1
                bearing = np.arctan(aside)  # of a camera that sees 90 degrees
                action[row] = FORWARD if abs(bearing) <= self.turn / 2 else RIGHT if bearing > 0 else LEFT
        return action


def coloured(
    picture: npt.NDArray[Any],  # (H, W, 3) uint8
    colour: str,
) -> npt.NDArray[np.bool_]:
    """Tell which pixels have one of ``COLOURS`` purely, (H, W)."""
    if colour not in COLOURS:
        raise ValueError(f"colour {colour!r} is none of {', '.join(COLOURS)}")
    has = np.array(PURE[colour], bool)
    least, most = picture[..., has].min(-1).astype(float), picture[..., ~has].max(-1)
    found: npt.NDArray[np.bool_] = (least >= BRIGHT) & (most <= DULL * least)
    return found
