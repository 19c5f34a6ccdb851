"""Tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..base.config import from_dict
from .base import Task
from .navigate import Navigate
from .revisit import Revisit


@dataclass(frozen=True)
class TaskEntry:
    """A task and the defaults of the environment built on it."""

    cls: type[Task]
    obs_mode: str
    action_mode: str
    max_episode_steps: int
    needs_goal: bool


TASKS: dict[str, TaskEntry] = {
    "navigate": TaskEntry(Navigate, "dict", "basic", 64, True),
    "revisit": TaskEntry(Revisit, "image", "basic", 32, False),
}


def make_task(name: str, options: Mapping[str, Any] | None = None) -> tuple[Task, TaskEntry]:
    """Build a task from its name and options.

    Raises:
        ValueError: on an unknown task or option.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; choose one of {', '.join(TASKS)}")
    entry = TASKS[name]
    return from_dict(entry.cls, dict(options or {}), where=f"task {name}"), entry
