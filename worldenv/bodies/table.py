"""The table that hands work at."""

from __future__ import annotations

import torch
from torch import Tensor

TABLE_LOW, TABLE_HIGH = (-0.03, -0.12), (0.165, 0.115)
"""Corner points, x and y, of the part of the table on which objects and goals are put."""


def check_places(
    goals: Tensor,  # (B, 2) x and y in metres
    num_envs: int,
) -> None:
    """Refuse goals that are not on the part of the table where things are put, by a ValueError."""
    if tuple(goals.shape) != (num_envs, 2):
        raise ValueError(f"goals have shape {tuple(goals.shape)}; pass x and y for each env, ({num_envs}, 2)")
    low, high = (torch.tensor(edge, dtype=torch.float64) for edge in (TABLE_LOW, TABLE_HIGH))
    wrong = (~((goals >= low) & (goals <= high)).all(1)).nonzero()[:, 0].tolist()
    if wrong:
        where = ", ".join(f"{value:g}" for value in goals[wrong[0]].tolist())
        raise ValueError(
            f"goal ({where}) of env {wrong[0]} is outside the table; x goes from {TABLE_LOW[0]:g} to "
            f"{TABLE_HIGH[0]:g}, y from {TABLE_LOW[1]:g} to {TABLE_HIGH[1]:g} metres"
        )
