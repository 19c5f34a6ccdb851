"""MetaWorld's fifty tasks, seen by its ``corner2`` camera, with the experts that it ships (extra ``metaworld``).

Importing this module registers them: ``worldenv record --env worldenv.sims.metaworld:MetaWorld/pick-place-v3 --policy
expert --size 64 64``. Pictures need OpenGL without a window: ``MUJOCO_GL=egl``, unless that says something else.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym

from ..base.objects import import_extra
from .told import WithExpert

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is first imported
_EXPERTS: dict[str, Any] = import_extra(
    "metaworld.policies", extra="metaworld", needs="MetaWorld's tasks need metaworld"
).ENV_POLICY_MAP
SIDE = 128
"""Pixels of its pictures, which recordings make smaller."""


def make(task: str, **options: Any) -> gym.Env[Any, Any]:
    """Make a task of MetaWorld, such as ``pick-place-v3``; goals are drawn anew in each episode."""
    sized: dict[str, Any] = {"width": SIDE, "height": SIDE, "camera_name": "corner2"} | options
    return WithExpert(gym.make("Meta-World/MT1", env_name=task, **sized), _EXPERTS[task]().get_action)


for _task in _EXPERTS:
    if f"MetaWorld/{_task}" not in gym.registry:
        gym.register(f"MetaWorld/{_task}", f"{__name__}:make", kwargs={"task": _task}, disable_env_checker=True)
