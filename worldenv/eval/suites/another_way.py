"""Paths that come back to a place another way: from its left, its right, or the opposite side."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec, frame_path
from ...geometry.path import Array, FreeSpace, Walker
from ...geometry.pose import look

Way = Literal["left", "right", "opposite"]
WAYS: tuple[Way, ...] = get_args(Way)
STAY = 4
"""Latents at the end, at least, that look at the start view again."""
_TRIES = 200


def plan_another_way(
    space: FreeSpace,
    height: float,
    num_latents: int,
    rng: np.random.Generator,
    spec: WorldSpec,
    *,
    way: Way,
    clearance: float,
) -> tuple[Tensor, Array]:
    """Find room for a round along the sides of a rectangle, as large as time allows.

    ``left`` and ``right`` leave forwards and come back from that side of the start view; ``opposite`` leaves sideways
    and comes back from ahead. Then the camera turns on the spot to the start view and stays.

    Returns:
        The start pose (4, 4) and ``camera`` actions (num_latents, 5).

    Raises:
        ValueError: if there is no time or no room.
    """
    quarter = math.ceil(90 / spec.steps.turn_deg)
    longest = (num_latents - STAY - 4 * quarter) // 2
    if longest < 2:
        raise ValueError(f"{num_latents} latents are too few to come back another way; pass {4 * quarter + STAY + 4}")
    for total in range(longest, 1, -1):
        for _ in range(_TRIES):
            ahead = int(rng.integers(max(1, total // 3), total - max(1, total // 3) + 1))
            x, z = space.sample(rng, clearance=clearance)
            yaw, side = float(rng.uniform(-np.pi, np.pi)), int(rng.choice([-1, 1]))
            walker = Walker(space, x=x, z=z, yaw=yaw, steps=spec.steps, clearance=clearance)
            moves = round_trip(way, ahead, total - ahead, quarter, 90 / spec.steps.turn_deg / quarter, side)
            if all(walker.try_step(*move) for move in moves):
                camera = np.zeros((num_latents, 5))
                camera[: len(walker.actions)] = np.stack(walker.actions)
                start = look(torch.tensor([x, height, z], dtype=torch.float64), torch.tensor(yaw).double())
                return start, camera
    raise ValueError("this map has no room for a round; choose another seed")


def round_trip(
    way: Way, ahead: int, aside: int, quarter: int, turn: float, side: int
) -> list[tuple[float, float, float]]:
    """List (forward, right, yaw) of a round that ends as it began, in units of the step.

    Args:
        way: where it comes back from.
        ahead: latents along the start view.
        aside: latents across it.
        quarter: latents of a quarter turn.
        turn: yaw of each of them.
        side: which side ``opposite`` leaves to, -1 for left.
    """
    if way == "opposite":
        rest = [(aside, 1.0), (ahead, 2.0)]
        moves, turn = [(0.0, float(side), 0.0)] * aside + [(1.0, 0.0, 0.0)] * ahead, -side * turn
        moves += [(0.0, 0.0, turn)] * quarter
    else:
        turn = turn if way == "right" else -turn
        rest = [(aside, 1.0), (ahead, 1.0), (aside, 1.0)]
        moves = [(1.0, 0.0, 0.0)] * ahead + [(0.0, 0.0, turn)] * quarter
    for count, quarters in rest:
        moves += [(1.0, 0.0, 0.0)] * count + [(0.0, 0.0, turn)] * int(quarters * quarter)
    return moves


def returns_along(
    start: Tensor,  # (4, 4)
    c2w: Tensor,  # (F, 4, 4)
) -> Tensor:
    """Return the earliest frame with the same pose for every frame that comes back to one, else -1; (1 + 4 F,)."""
    path = torch.cat([start[None], frame_path(start, c2w)])
    assert len(path) == 1 + FRAMES_PER_LATENT * len(c2w)
    alike = ((path[:, None] - path[None]).abs() < 1e-6).flatten(2).all(2)
    earliest = alike.long().argmax(1)
    return torch.where(earliest < torch.arange(len(path)), earliest, -1)
