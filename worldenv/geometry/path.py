"""Camera paths on the free space of a map: there and back, look-around, loops, exploration.

A path is a sequence of ``camera`` actions, one per latent, in units of the action steps, planned so that the camera
keeps clear of walls. Every planner takes a random generator and returns exactly ``num_latents`` actions; integrating
them with ``camera_to_c2w`` gives the poses.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .action import ActionSteps

PathKind = Literal["out_and_back", "look_around", "loop", "explore"]
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

FORWARD, RIGHT, UP, YAW, PITCH = range(5)


@dataclass(frozen=True)
class FreeSpace:
    """Where a camera may be: a boolean grid over the world's x (columns) and z (rows)."""

    free: Mask  # (rows, columns)
    cell: float  # metres per cell

    def contains(self, x: float, z: float, *, clearance: float) -> bool:
        """Tell whether a disc of radius ``clearance`` metres (its bounding square) at (x, z) is free."""
        r0, r1 = (math.floor((z + s * clearance) / self.cell) for s in (-1, 1))
        c0, c1 = (math.floor((x + s * clearance) / self.cell) for s in (-1, 1))
        rows, columns = self.free.shape
        if r0 < 0 or c0 < 0 or r1 >= rows or c1 >= columns:
            return False
        return bool(self.free[r0 : r1 + 1, c0 : c1 + 1].all())

    def slide(
        self, place: tuple[float, float], motion: tuple[float, float], *, clearance: float
    ) -> tuple[float, float]:
        """Move from (x, z): an axis that a wall stops moves no further, the other one slides."""
        (x, z), (dx, dz) = place, motion
        if self.contains(x + dx, z, clearance=clearance):
            x += dx
        if self.contains(x, z + dz, clearance=clearance):
            z += dz
        return x, z

    def sample(self, rng: np.random.Generator, *, clearance: float) -> tuple[float, float]:
        """Draw a free point (x, z).

        Raises:
            ValueError: if none is found; the map has no room for this clearance.
        """
        cells = np.argwhere(self.free)
        for _ in range(1000):
            row, column = cells[rng.integers(len(cells))]
            x, z = ((i + u) * self.cell for i, u in zip((column, row), rng.random(2), strict=True))
            if self.contains(x, z, clearance=clearance):
                return float(x), float(z)
        raise ValueError(f"no free point with {clearance} m of clearance in this map; lower the clearance")

    def route(
        self, start: tuple[float, float], goal: tuple[float, float], *, clearance: float
    ) -> list[tuple[float, float]]:
        """Return cell centres (x, z) of a shortest 4-connected route with this clearance; empty where there is none."""
        first, last = (((int(z // self.cell)), int(x // self.cell)) for x, z in (start, goal))
        parents: dict[tuple[int, int], tuple[int, int]] = {first: first}
        queue = deque([first])
        while queue and last not in parents:
            row, column = queue.popleft()
            for step in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                inside = 0 <= step[0] < self.free.shape[0] and 0 <= step[1] < self.free.shape[1]
                if not inside or step in parents:
                    continue
                if step == last or self.contains(*self._centre(step), clearance=clearance):
                    parents[step] = (row, column)
                    queue.append(step)
        if last not in parents:
            return []
        cells = [last]
        while cells[-1] != first:
            cells.append(parents[cells[-1]])
        return [self._centre(cell) for cell in reversed(cells)]

    def _centre(self, cell: tuple[int, int]) -> tuple[float, float]:
        return (cell[1] + 0.5) * self.cell, (cell[0] + 0.5) * self.cell


class Walker:
    """Moves an upright camera over free space, one ``camera`` action at a time, refusing steps into walls."""

    def __init__(
        self, space: FreeSpace, *, x: float, z: float, yaw: float, steps: ActionSteps, clearance: float
    ) -> None:
        self.space, self.steps, self.clearance = space, steps, clearance
        self.x, self.z, self.yaw, self.pitch = x, z, yaw, 0.0
        self.actions: list[Array] = []

    def try_step(self, forward: float = 0, right: float = 0, yaw: float = 0, pitch: float = 0) -> bool:
        """Take one action if it stays clear of walls (by the walk rule: rotate, then translate)."""
        turn = self.yaw + yaw * math.radians(self.steps.turn_deg)
        sine, cosine = math.sin(turn), math.cos(turn)
        x = self.x + self.steps.move * (forward * sine + right * cosine)
        z = self.z + self.steps.move * (forward * cosine - right * sine)
        if (forward or right) and not self.space.contains(x, z, clearance=self.clearance):
            return False
        limit = self.steps.pitch_limit_deg / self.steps.pitch_deg
        if abs(self.pitch + pitch) > limit + 1e-9:
            pitch = 0.0
        self.x, self.z, self.yaw, self.pitch = x, z, turn, self.pitch + pitch
        self.actions.append(np.array([forward, right, 0.0, yaw, pitch]))
        return True

    def head_for(self, x: float, z: float) -> bool:
        """Turn towards a point or walk to it; False once it is within one step, or when a wall is in the way."""
        if math.hypot(x - self.x, z - self.z) < max(self.steps.move, 0.3):
            return False
        bearing = math.atan2(x - self.x, z - self.z)
        error = math.remainder(bearing - self.yaw, 2 * math.pi)
        turn = max(-1.0, min(1.0, error / math.radians(self.steps.turn_deg)))
        if self.try_step(forward=float(abs(error) < 0.6), yaw=turn):
            return True
        return abs(error) > 1e-3 and self.try_step(yaw=turn)


def wander(walker: Walker, num_latents: int, rng: np.random.Generator) -> None:
    """Hold random keys for 2 to 8 latents at a time, mostly walking forward and turning."""
    choices = ((1, 0, 0), (1, 0, 1), (1, 0, -1), (0, 0, 1), (0, 0, -1), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 0))
    weights = np.array([6, 2, 2, 4, 4, 1.5, 0.7, 0.7, 0.4])
    stop = len(walker.actions) + num_latents
    while len(walker.actions) < stop:
        forward, right, yaw = choices[rng.choice(len(choices), p=weights / weights.sum())]
        for _ in range(int(rng.integers(2, 9))):
            if len(walker.actions) == stop or not walker.try_step(forward, right, yaw):
                break


def visit(walker: Walker, points: list[tuple[float, float]], num_latents: int) -> None:
    """Walk along points until ``num_latents`` actions are taken or the last point is reached."""
    stop = len(walker.actions) + num_latents
    for x, z in points:
        while len(walker.actions) < stop and walker.head_for(x, z):
            pass


def plan_explore(walker: Walker, num_latents: int, rng: np.random.Generator) -> None:
    """Walk to far points, or wander, whichever the coin says."""
    stop = len(walker.actions) + num_latents
    while len(walker.actions) < stop:
        if rng.random() < 0.5:
            goal = walker.space.sample(rng, clearance=walker.clearance)
            visit(
                walker,
                walker.space.route((walker.x, walker.z), goal, clearance=walker.clearance),
                stop - len(walker.actions),
            )
        wander(walker, min(int(rng.integers(4, 13)), stop - len(walker.actions)), rng)


def plan_look_around(walker: Walker, num_latents: int, rng: np.random.Generator) -> None:
    """Turn on the spot, all the way round or to and fro, walking a little between turns."""
    stop = len(walker.actions) + num_latents
    around = math.ceil(360 / walker.steps.turn_deg)
    while len(walker.actions) < stop:
        direction, turns = int(rng.choice([-1, 1])), int(rng.choice([around, around // 2, around // 4]))
        to_and_fro = rng.random() < 0.5
        for sign in (direction, -direction) if to_and_fro else (direction,):
            for _ in range(min(turns, stop - len(walker.actions))):
                walker.try_step(yaw=sign)
        wander(walker, min(int(rng.integers(0, 9)), stop - len(walker.actions)), rng)


def plan_loop(walker: Walker, num_latents: int, rng: np.random.Generator) -> None:
    """Visit a few points in turn and come home by walking, again and again while time remains."""
    stop, home = len(walker.actions) + num_latents, (walker.x, walker.z)
    reach = walker.steps.move * num_latents / 8
    while len(walker.actions) < stop:
        here, points = home, []
        for _ in range(int(rng.integers(1, 4))):
            near = [walker.space.sample(rng, clearance=walker.clearance) for _ in range(8)]
            goal = min(near, key=lambda p: abs(math.dist(p, home) - reach))
            points += walker.space.route(here, goal, clearance=walker.clearance)
            here = goal
        before = len(walker.actions)
        visit(walker, points + walker.space.route(here, home, clearance=walker.clearance), stop - before)
        if len(walker.actions) == before:
            wander(walker, min(4, stop - before), rng)


PLANNERS: dict[str, Callable[[Walker, int, np.random.Generator], None]] = {
    "look_around": plan_look_around,
    "loop": plan_loop,
    "explore": plan_explore,
}


def plan_path(kind: PathKind, walker: Walker, num_latents: int, rng: np.random.Generator, *, pitch: bool) -> Array:
    """Plan a path of one kind from where the walker stands.

    ``out_and_back`` explores for half of the time and then takes every action back, so that poses mirror exactly.
    ``pitch`` lays looks up and down over it.

    Returns:
        (num_latents, 5) ``camera`` actions in units of the step.
    """
    out = num_latents // 2 if kind == "out_and_back" else num_latents
    PLANNERS["explore" if kind == "out_and_back" else kind](walker, out, rng)
    actions = walker.actions[-out:]
    if pitch:
        actions = add_pitch(actions, rng, limit=int(walker.steps.pitch_limit_deg / walker.steps.pitch_deg))
    if kind == "out_and_back":
        pause = [np.zeros(5)] * (num_latents - 2 * out)
        actions = actions + pause + [undo(a, walker.steps) for a in reversed(actions)]
    return np.stack(actions)


def undo(
    action: Array,  # (5,)
    steps: ActionSteps,
) -> Array:
    """Return the action that brings the camera back exactly (walk rule: rotate, then translate); shape (5,)."""
    angle = action[YAW] * math.radians(steps.turn_deg)
    sine, cosine = math.sin(angle), math.cos(angle)
    forward, right = action[FORWARD], action[RIGHT]
    back = (right * sine - forward * cosine, -(forward * sine + right * cosine))
    return np.array([*back, -action[UP], -action[YAW], -action[PITCH]])


def add_pitch(actions: list[Array], rng: np.random.Generator, *, limit: int) -> list[Array]:
    """Lay pitch keys over a path: look up or down for a while and come back to level."""
    result, start = [a.copy() for a in actions], 0
    while start < len(result):
        start += int(rng.integers(4, 16))
        amount, hold, sign = int(rng.integers(1, limit + 1)), int(rng.integers(1, 8)), int(rng.choice([-1, 1]))
        if start + 2 * amount + hold > len(result):
            break
        for i in range(amount):
            result[start + i][PITCH] = sign
            result[start + amount + hold + i][PITCH] = -sign
        start += 2 * amount + hold
    return result
