"""Fetch's arm of gymnasium-robotics with scripts that reach, and that pick up and place (extra ``fetch``).

Importing this module registers them: ``worldenv record --env worldenv.sims.fetch:Fetch/PickAndPlace-v4 --policy expert
--size 64 64``. Pictures need OpenGL without a window: ``MUJOCO_GL=egl``, unless that says something else.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ..base.objects import import_extra
from .told import Script, WithExpert

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is first imported
gym.register_envs(import_extra("gymnasium_robotics", extra="fetch", needs="Fetch's arm needs gymnasium-robotics"))
Array = npt.NDArray[Any]
SIDE = 128
"""Pixels of its pictures, which recordings make smaller."""
STEP = 0.1
"""Metres, beyond which the arm moves as fast as it can."""
ABOVE = np.array([0.0, 0.0, 0.06])
"""From where the gripper comes down."""
OPEN, SHUT = 1.0, -1.0


def reach(obs: Any) -> Array:
    """Move the gripper to the goal."""
    return _towards(obs["desired_goal"] - obs["achieved_goal"], OPEN)


def pick_and_place(obs: Any) -> Array:
    """Come down on the block, close, and carry it to the goal, by what is seen now alone."""
    grip, block, width = obs["observation"][:3], obs["observation"][3:6], obs["observation"][9:11].sum()
    off = block - grip
    if np.linalg.norm(off) < 0.02:  # round the block: close, then go
        held = width < 0.055
        return _towards(obs["desired_goal"] - block if held else off, SHUT)
    beside = np.linalg.norm(off[:2]) > 0.01
    return _towards(off + ABOVE if beside else off, OPEN)


def _towards(way: Array, fingers: float) -> Array:
    return np.append((way / STEP).clip(-1, 1), fingers)


TASKS: dict[str, Script] = {"Reach-v4": reach, "PickAndPlace-v4": pick_and_place}


def make(task: str, **options: Any) -> gym.Env[Any, Any]:
    """Make a task of Fetch."""
    sized: dict[str, Any] = {"width": SIDE, "height": SIDE} | options
    return WithExpert(gym.make(f"Fetch{task}", **sized), TASKS[task])


for _task in TASKS:
    if f"Fetch/{_task}" not in gym.registry:
        gym.register(f"Fetch/{_task}", f"{__name__}:make", kwargs={"task": _task}, disable_env_checker=True)
