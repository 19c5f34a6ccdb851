"""Paths for a body that a simulator drives with collisions: into walls, along them and away, and restless ones.

What is planned here are commands, one ``camera`` action per latent in units of the action steps; where they lead is the
simulator's matter.
"""

from __future__ import annotations

import math

import numpy as np

from .action import ActionSteps
from .path import PITCH, Array, FreeSpace

BODY = 0.5
"""Metres from the middle of the body to its sides."""


class _Body:
    """A coarse guess of where commands lead."""

    def __init__(self, space: FreeSpace, start: tuple[float, float, float], steps: ActionSteps) -> None:
        self.space, self.steps = space, steps
        self.x, self.z, self.yaw = start
        self.actions: list[Array] = []

    def take(self, forward: float, right: float, yaw: float) -> bool:
        """Take one action; False if a wall took half of the motion or more."""
        self.actions.append(np.array([forward, right, 0.0, yaw, 0.0]))
        self.yaw += yaw * math.radians(self.steps.turn_deg)
        sine, cosine = math.sin(self.yaw), math.cos(self.yaw)
        dx = self.steps.move * (forward * sine + right * cosine)
        dz = self.steps.move * (forward * cosine - right * sine)
        before = self.x, self.z
        self.x, self.z = self.space.slide(before, (dx, dz), clearance=BODY)
        return math.dist(before, (self.x, self.z)) > 0.5 * math.hypot(dx, dz)

    def face_wall(self) -> None:
        """Turn square to the nearest wall, by as many latents as that takes."""
        headings = [k * math.pi / 2 for k in range(4)]
        heading = min(headings, key=self._room_towards)
        turn = math.remainder(heading - self.yaw, 2 * math.pi) / math.radians(self.steps.turn_deg)
        for _ in range(math.ceil(abs(turn))):
            part = max(-1.0, min(1.0, turn))
            self.take(0, 0, part)
            turn -= part

    def _room_towards(self, heading: float) -> int:
        """Count the quarters of a metre that are free in this direction."""
        dx, dz = 0.25 * math.sin(heading), 0.25 * math.cos(heading)
        count = 1
        while self.space.contains(self.x + count * dx, self.z + count * dz, clearance=BODY):
            count += 1
        return count


def start_beside(space: FreeSpace, rng: np.random.Generator, *, clearance: float) -> tuple[float, float, float]:
    """Draw a start (x, z, yaw) not far from a wall."""
    drawn = [space.sample(rng, clearance=clearance) for _ in range(6)]
    rooms = [sum(space.contains(*place, clearance=r) for r in (0.8, 1.1, 1.5, 2.0, 2.5)) for place in drawn]
    return *drawn[int(np.argmin(rooms))], float(rng.uniform(-np.pi, np.pi))


def plan_walls(
    space: FreeSpace, start: tuple[float, float, float], steps: ActionSteps, num_latents: int, rng: np.random.Generator
) -> Array:
    """Walk at a wall and keep pushing, slide along it at an angle or back away, turn, and again; (num_latents, 5)."""
    body = _Body(space, start, steps)
    while len(body.actions) < num_latents:
        if rng.random() < 0.6:
            body.face_wall()
        forward, right = ((1, 0), (1, 0), (1, 0), (1, 0), (-1, 0), (0, 1), (0, -1))[int(rng.integers(7))]
        for _ in range(24):
            if not body.take(forward, right, 0):
                break
        for _ in range(int(rng.integers(3, 9))):
            body.take(forward, right, 0)
        side = int(rng.choice([-1, 1]))
        if rng.random() < 0.5:
            for _ in range(int(rng.integers(2, 6))):
                body.take(forward, right, side)
            for _ in range(int(rng.integers(4, 13))):
                body.take(forward, right, 0)
        else:
            for _ in range(int(rng.integers(2, 7))):
                body.take(-forward, -right, 0)
        for _ in range(int(rng.integers(2, 11))):
            body.take(0, 0, side)
    return np.stack(body.actions[:num_latents])


def restless_keys(num_latents: int, rng: np.random.Generator) -> Array:
    """Draw keys that differ from those of the latent before, every latent; (num_latents, 5)."""
    moves = [
        (1, 0, 0),
        (1, 0, 1),
        (1, 0, -1),
        (0, 0, 1),
        (0, 0, -1),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (1, 1, 0),
        (1, -1, 0),
        (-1, 0, 1),
        (-1, 0, -1),
        (0, 1, -1),
        (0, -1, 1),
        (0, 0, 0),
    ]
    shares = np.array([6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 2], float)
    rows: list[Array] = []
    last = -1
    for _ in range(num_latents):
        weights = np.where(np.arange(len(moves)) == last, 0, shares)
        last = int(rng.choice(len(moves), p=weights / weights.sum()))
        forward, right, yaw = moves[last]
        rows.append(np.array([forward, right, 0, yaw, 0], float))
    looks = rng.random(num_latents) < 0.15
    camera = np.stack(rows)
    camera[looks, PITCH] = rng.choice([-1.0, 1.0], size=int(looks.sum()))
    return camera


def with_pauses(
    camera: Array,  # (F, 5)
    rng: np.random.Generator,
) -> Array:
    """Stand still for 3 to 8 latents, once to three times, between the actions; the last ones fall off; (F, 5)."""
    rows = list(camera)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(0, len(camera)))
        rows[place:place] = [np.zeros(5)] * int(rng.integers(3, 9))
    return np.stack(rows[: len(camera)])
