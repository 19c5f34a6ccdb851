"""Tasks by name: one line each. Ids, the tests of all environments and the table of docs/environments.md follow.

Strings only, so that ``import worldenv``, which registers the ids, imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

from ..base.config import from_dict
from ..base.objects import find_object, import_object

if TYPE_CHECKING:
    from .base import Task

TASKS: dict[str, str] = {
    "navigate": "worldenv.tasks.navigate:Navigate",
    "navigate-v1": "worldenv.tasks.navigate_v1:Navigate",
    "object_nav": "worldenv.tasks.object_nav:ObjectNav",
    "image_nav": "worldenv.tasks.image_nav:ImageNav",
    "revisit": "worldenv.tasks.revisit:Revisit",
    "revisit-v1": "worldenv.tasks.revisit_v1:Revisit",
    "explore": "worldenv.tasks.explore:Explore",
    "free": "worldenv.tasks.free:Free",
    "world": "worldenv.tasks.world:World",
    "hand_place": "worldenv.tasks.hand_place:HandPlace",
    "hand_lift": "worldenv.tasks.hand_lift:HandLift",
    "hand_push": "worldenv.tasks.hand_push:HandPush",
}
"""Where each task is; the name of its class is that of its ids, whose version is 0 unless the task's name has one."""

SIMULATED = ("hand_place", "hand_lift", "hand_push")
"""Those of the hand's table, whose ids on ground truth need no world."""


def id_names() -> dict[str, tuple[str, str]]:
    """Return the name and the version of each task's ids: ``("Navigate", "v0")``."""
    return {task: (where.partition(":")[2], task.partition("-")[2] or "v0") for task, where in TASKS.items()}


def make_task(task: str | Task, options: Mapping[str, Any] | None = None) -> Task:
    """Build a task from its name, or ``package.module:Class``, and its options; or take one that is there.

    Raises:
        ValueError: on an unknown task or option.
    """
    found = find_object(task, TASKS, what="task")
    if isinstance(found, str):
        found = import_object(found, what="task")
    if isinstance(found, type):
        if not is_dataclass(found):
            raise ValueError(f"task {found.__name__} is no dataclass, whose fields are its options; see tasks.base")
        made: Any = from_dict(found, dict(options or {}), where=f"task {task}")
        return cast("Task", made)
    if not hasattr(found, "defaults"):
        raise ValueError(f"task={str(found)[:80]!r} has not what a task has; see tasks.base")
    if options:
        raise ValueError(f"task_options={dict(options)}: the task is given as an object; give it its options itself")
    return cast("Task", found)
