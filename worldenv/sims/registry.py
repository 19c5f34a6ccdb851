"""Simulators that need no world: what a task's ``simulator`` may name. Nothing is imported before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..dynamics.protocol import Dynamics


def _hand(num_envs: int, chunk_latents: int | None, palm: bool, goal: str) -> Dynamics:
    from .mujoco.sim import HAND_SPEC, HandDynamics

    spec = replace(HAND_SPEC, chunk_latents=chunk_latents or HAND_SPEC.chunk_latents)
    return HandDynamics(num_envs, spec=spec, goal="mark" if goal == "mark" else "tray", palm=palm)


SIMULATORS: dict[str, Callable[[int, int | None, bool], Dynamics]] = {
    "hand/tray": lambda num_envs, chunk_latents, palm: _hand(num_envs, chunk_latents, palm, "tray"),
    "hand/mark": lambda num_envs, chunk_latents, palm: _hand(num_envs, chunk_latents, palm, "mark"),
}
"""Each is opened for so many envs, latents a step (None is its own), and with the palm's pictures or without."""


def open_simulator(name: str, num_envs: int, *, chunk_latents: int | None = None, palm: bool = False) -> Dynamics:
    """Open a simulator.

    Raises:
        ImportError: if what it runs on is not installed, naming what to install.
        ValueError: if there is none of this name.
    """
    if name not in SIMULATORS:
        raise ValueError(f"unknown simulator {name!r}; choose one of {', '.join(SIMULATORS)}")
    return SIMULATORS[name](num_envs, chunk_latents, palm)
