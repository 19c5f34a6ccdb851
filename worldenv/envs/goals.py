"""Rewards computed anew for other goals, as hindsight replay asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..tasks.base import GoalConditioned
from .options import read_array


def goal_rewards(
    task: GoalConditioned,
    achieved_goal: Any,  # (..., D)
    desired_goal: Any,  # (..., D)
    info: Any,
) -> npt.NDArray[np.float64]:
    """Return the rewards of having achieved one goal where another was desired, (...); ``info`` says nothing more.

    Raises:
        ValueError: if these are no goals of the task, or of different shapes.
    """
    named = {"achieved_goal": achieved_goal, "desired_goal": desired_goal}
    achieved, desired = (read_array(goal, name, numbers=True).astype(np.float64) for name, goal in named.items())
    size = task.shows["desired_goal"].shape
    if achieved.shape != desired.shape or achieved.shape[-1:] != size:
        shapes = f"achieved_goal has shape {achieved.shape}, desired_goal {desired.shape}"
        raise ValueError(f"{shapes}; pass (..., {', '.join(map(str, size))}) of each")
    if not (np.isfinite(achieved) & np.isfinite(desired)).all():
        raise ValueError("achieved_goal and desired_goal hold NaN or infinity; pass what was observed")
    return task.compute_reward(torch.from_numpy(achieved), torch.from_numpy(desired)).numpy()
