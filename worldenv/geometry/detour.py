"""Ways from one goal to another where no straight line leads back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .action import ActionSteps
from .contact import BODY
from .goals import Point, spots_before
from .path import Array, FreeSpace, Walker, visit

CLEARANCE = 0.65
"""Metres that the way keeps from walls."""
ARRIVED, PATIENCE = 0.5, 24.0
"""Metres from a goal at which one is there, and metres of walking after which one never is."""
WALK = (4.0, 13.0)
"""Metres of walking."""
TRIES = 200


@dataclass(frozen=True)
class Detour:
    """A walk that begins in front of one goal and ends in front of another, facing each."""

    place: Point
    """Where it begins."""
    yaw: float
    """Where one looks then, radians."""
    actions: Array  # (F, 5)
    goals: tuple[int, int]
    """The goals that it begins and ends in front of."""


def plan_detour(
    space: FreeSpace, goals: Sequence[Point], *, steps: ActionSteps, num_latents: int, rng: np.random.Generator
) -> Detour | None:
    """Plan a walk of exactly ``num_latents`` actions, or return None where none is found.

    Who goes back towards its beginning in a straight line, sliding along walls, does not get there.
    """
    spots = [spots_before(space, goal, clearance=CLEARANCE) for goal in goals]
    reached = [i for i, some in enumerate(spots) if some]
    for _ in range(TRIES if len(reached) > 1 else 0):
        near, far = (int(i) for i in rng.choice(reached, 2, replace=False))
        first, last = (spots[i][int(rng.integers(len(spots[i])))] for i in (near, far))
        if not WALK[0] / 2 < math.dist(first, last) < WALK[1] or leads_straight(space, last, first, steps.move):
            continue
        route = space.route(first, last, clearance=CLEARANCE)
        if not WALK[0] <= len(route) * space.cell <= WALK[1]:
            continue
        yaw = math.atan2(goals[near][0] - first[0], goals[near][1] - first[1])
        walker = Walker(space, x=first[0], z=first[1], yaw=yaw, steps=steps, clearance=CLEARANCE)
        visit(walker, route, num_latents)
        here = (walker.x, walker.z)
        if _face(walker, goals[far], num_latents) and not leads_straight(space, here, first, steps.move):
            return Detour(first, yaw, np.stack(walker.actions), (near, far))
    return None


def leads_straight(space: FreeSpace, here: Point, goal: Point, step: float) -> bool:
    """Tell whether who always walks towards a goal gets there, sliding along walls as a body does."""
    x, z = here
    for _ in range(math.ceil(PATIENCE / step)):
        away = math.dist((x, z), goal)
        if away < ARRIVED:
            return True
        dx, dz = (step * (b - a) / away for a, b in ((x, goal[0]), (z, goal[1])))
        before, (x, z) = (x, z), space.slide((x, z), (dx, dz), clearance=BODY)
        if (x, z) == before:
            return False
    return False


def _face(walker: Walker, goal: Point, num_latents: int) -> bool:
    """Turn towards a goal and stand still until ``num_latents`` actions are taken; False if that is not enough."""
    step = math.radians(walker.steps.turn_deg)
    bearing = math.atan2(goal[0] - walker.x, goal[1] - walker.z)
    while len(walker.actions) < num_latents:
        error = math.remainder(bearing - walker.yaw, 2 * math.pi)
        walker.try_step(yaw=max(-1, min(1, round(error / step))))
    return abs(math.remainder(bearing - walker.yaw, 2 * math.pi)) < step
