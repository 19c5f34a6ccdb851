"""Walks to goals: up to one of them, a stop in front of it, a look around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .path import FreeSpace, Walker, visit, wander

NEAR, FAR = 1.5, 3.5
"""Metres from the middle of a goal within which one stops in front of it."""
_APPROACH = 7
"""Cells on the way to the nearest goal at which a walk begins, about."""

Point = tuple[float, float]


def start_near(walker: Walker, goals: Sequence[Point], rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a start (x, z, yaw) some metres of walking from a goal."""
    drawn = [walker.space.sample(rng, clearance=walker.clearance) for _ in range(6)]
    away = [[len(route) for route in _routes(walker, place, goals, rng).values()] for place in drawn]
    x, z = drawn[int(np.argmin([abs(min(lengths, default=1000) - _APPROACH) for lengths in away]))]
    return x, z, float(rng.uniform(-np.pi, np.pi))


def plan_goals(walker: Walker, goals: Sequence[Point], num_latents: int, rng: np.random.Generator) -> None:
    """Walk to the nearest goal, then to any, one after the other; look at each for a while."""
    stop = len(walker.actions) + num_latents
    while len(walker.actions) < stop:
        before = len(walker.actions)
        routes = _routes(walker, (walker.x, walker.z), goals, rng)
        if routes:
            nearest = min(routes, key=lambda goal: len(routes[goal]))
            goal = list(routes)[int(rng.integers(len(routes)))] if walker.actions else nearest
            visit(walker, routes[goal], stop - before)
            if math.dist((walker.x, walker.z), goal) < FAR + 1:
                _look(walker, goal, stop, rng)
        if len(walker.actions) == before:
            wander(walker, min(4, stop - before), rng)


def _routes(walker: Walker, start: Point, goals: Sequence[Point], rng: np.random.Generator) -> dict[Point, list[Point]]:
    """Return a way to some place in front of each goal that can be reached."""
    routes = {}
    for goal in goals:
        spots = spots_before(walker.space, goal, clearance=walker.clearance)
        if spots:
            spot = spots[int(rng.integers(len(spots)))]
            route = walker.space.route(start, spot, clearance=walker.clearance)
            if route:
                routes[goal] = route
    return routes


def spots_before(space: FreeSpace, goal: Point, *, clearance: float) -> list[Point]:
    """Return the middles of free cells in front of a goal that see it."""
    found = []
    reach = math.ceil(FAR / space.cell)
    row, column = int(goal[1] // space.cell), int(goal[0] // space.cell)
    for i in range(row - reach, row + reach + 1):
        for j in range(column - reach, column + reach + 1):
            spot = (j + 0.5) * space.cell, (i + 0.5) * space.cell
            far = math.dist(spot, goal)
            if NEAR < far < FAR and space.contains(*spot, clearance=clearance):
                parts = np.arange(0.0, far - NEAR, 0.25) / far
                line = [(spot[0] + p * (goal[0] - spot[0]), spot[1] + p * (goal[1] - spot[1])) for p in parts]
                if all(space.contains(*point, clearance=0.05) for point in line):
                    found.append(spot)
    return found


def _look(walker: Walker, goal: Point, stop: int, rng: np.random.Generator) -> None:
    """Face the goal, stand still, then turn to and fro or walk around it."""
    while len(walker.actions) < stop and abs(_error(walker, goal)) > 0.05:
        _step(walker, goal, stop)
    for _ in range(int(rng.integers(1, 5))):
        _step(walker, goal, stop)
    side, count = int(rng.choice([-1, 1])), int(rng.integers(2, 7))
    if rng.random() < 0.5:
        for sign in (side, -side):
            for _ in range(min(count, stop - len(walker.actions))):
                walker.try_step(yaw=sign)
    else:
        for _ in range(2 * count):
            if not _step(walker, goal, stop, right=side):
                break


def _error(walker: Walker, goal: Point) -> float:
    return math.remainder(math.atan2(goal[0] - walker.x, goal[1] - walker.z) - walker.yaw, 2 * math.pi)


def _step(walker: Walker, goal: Point, stop: int, *, right: float = 0) -> bool:
    """Turn towards the goal, by one step at most, and walk sideways; False at the end or at a wall."""
    turn = _error(walker, goal) / math.radians(walker.steps.turn_deg)
    return len(walker.actions) < stop and walker.try_step(right=right, yaw=max(-1.0, min(1.0, turn)))
