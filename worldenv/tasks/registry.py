"""Tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.config import from_dict
from ..base.objects import find_object
from .base import Task
from .navigate import Navigate
from .revisit import Revisit

TASKS: dict[str, type[Task]] = {"navigate": Navigate, "revisit": Revisit}


def make_task(task: str | Task, options: Mapping[str, Any] | None = None) -> Task:
    """Build a task from its name, or ``package.module:Class``, and its options; or take one that is there.

    Raises:
        ValueError: on an unknown task or option.
    """
    found = find_object(task, TASKS, what="task")
    if isinstance(found, type):
        made: Task = from_dict(found, dict(options or {}), where=f"task {task}")
        return made
    if options:
        raise ValueError(f"task_options={dict(options)}: the task is given as an object; give it its options itself")
    return found
