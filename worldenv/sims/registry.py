"""Simulators that need no world: what a task's ``simulator`` may name. Nothing is imported before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..dynamics.protocol import Dynamics
from ..dynamics.spec import WorldSpec


def _hand(goal: str, num_envs: int, spec: WorldSpec | None, chunk_latents: int | None, **how: Any) -> Dynamics:
    from .mujoco.sim import HAND_SPEC, HandDynamics

    own = spec or HAND_SPEC
    spec = replace(own, chunk_latents=chunk_latents or own.chunk_latents)
    return HandDynamics(num_envs, spec=spec, goal="mark" if goal == "mark" else "tray", **how)


SIMULATORS: dict[str, Callable[..., Dynamics]] = {
    "hand/tray": partial(_hand, "tray"),
    "hand/mark": partial(_hand, "mark"),
}
"""What opens each, called as ``open_simulator`` is."""


def open_simulator(
    name: str,
    num_envs: int,
    *,
    spec: WorldSpec | None = None,
    chunk_latents: int | None = None,
    palm: bool = False,
    pictures: bool = True,
    start_seeds: Sequence[int] | None = None,
) -> Dynamics:
    """Open a simulator.

    Args:
        name: which.
        num_envs: how many of it.
        spec: the size of its pictures, and its steps, by default its own.
        chunk_latents: of a step, instead.
        palm: whether to show what the palm sees.
        pictures: whether to show anything.
        start_seeds: what lies where at the start views of a world, whose twin it is; None begins anywhere.

    Raises:
        ImportError: if what it runs on is not installed, naming what to install.
        ValueError: if there is none of this name.
    """
    if name not in SIMULATORS:
        raise ValueError(f"unknown simulator {name!r}; choose one of {', '.join(SIMULATORS)}")
    return SIMULATORS[name](num_envs, spec, chunk_latents, palm=palm, pictures=pictures, start_seeds=start_seeds)
