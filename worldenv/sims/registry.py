"""Simulators that need no world: what a task's ``simulator`` may name. Nothing is imported before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ..dynamics.protocol import Dynamics


def _hand(goal: str, num_envs: int, chunk_latents: int | None, **seen: bool) -> Dynamics:
    from .mujoco.sim import HAND_SPEC, HandDynamics

    spec = replace(HAND_SPEC, chunk_latents=chunk_latents or HAND_SPEC.chunk_latents)
    return HandDynamics(num_envs, spec=spec, goal="mark" if goal == "mark" else "tray", **seen)


SIMULATORS: dict[str, Callable[..., Dynamics]] = {
    "hand/tray": partial(_hand, "tray"),
    "hand/mark": partial(_hand, "mark"),
}
"""What opens each, called as ``open_simulator`` is."""


def open_simulator(
    name: str, num_envs: int, *, chunk_latents: int | None = None, palm: bool = False, pictures: bool = True
) -> Dynamics:
    """Open a simulator; ``chunk_latents`` None is its own.

    Raises:
        ImportError: if what it runs on is not installed, naming what to install.
        ValueError: if there is none of this name.
    """
    if name not in SIMULATORS:
        raise ValueError(f"unknown simulator {name!r}; choose one of {', '.join(SIMULATORS)}")
    return SIMULATORS[name](num_envs, chunk_latents, palm=palm, pictures=pictures)
