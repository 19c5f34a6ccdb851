"""What has been seen of a floor: where one can walk and what stands in the way, from depth, batched.

Every row has a square grid of the floor around it. A view tells of each column of its picture how far the floor is
free and where, at the height of a body, something stands; near views tell more than far ones. The grid wraps around:
what lies further away than half its side is forgotten when the camera gets there, so that time and memory stay the
same however far one walks. Nothing is known of what nobody has seen, and it stops nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from .camera import unproject


@dataclass(frozen=True, kw_only=True)
class WallsConfig:
    """A body on a floor, and the grid that is kept of it."""

    radius: float = 0.5
    """Metres from the middle of the body to its sides."""
    height: Annotated[tuple[float, float], "signed"] = (-0.9, 0.3)
    """Metres above the camera between which what is seen stands in the way."""
    cell: float = 0.125
    """Metres to a side of a cell."""
    cells: int = 256
    """Cells to a side of the grid."""
    reach: float = 12.0
    """Metres beyond which depth is not trusted."""
    margin: float = 0.1
    """Share of its distance that is left open before what stands in the way: what is behind it is unknown."""

    def __post_init__(self) -> None:
        for name in ("radius", "cell", "cells", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin={self.margin} is a share, from 0 to 1")
        if self.cells * self.cell < 2 * (self.reach + self.radius):
            raise ValueError(f"cells={self.cells} of {self.cell} m do not hold reach={self.reach} m on both sides")


NEAR, MIDDLE = 2.0, 4.0
"""Metres up to which a view counts four times, and twice."""
FAR = 1e4
"""Metres that stand for endless depth."""
MOST = 8
"""What it counts that a body is there: nothing overturns that."""
STEP = 0.0625
"""Metres that a body moves before it is stopped anew."""
ROUNDS = 4
"""How often a body is pushed out of what it touches; in a corner it touches two walls."""
SLACK = 1e-3
"""Metres by which it may stay in there."""


class Occupancy:
    """Evidence of B rows, int8 (B, cells, cells) over z and x: above 0 for something solid, below for free floor.

    Its size is what the view counts that it is from: what a view shows is overturned by nearer views alone, and walls
    not by equally near ones, for who stands before a wall sees little of how far away it is.
    """

    def __init__(self, num_rows: int, config: WallsConfig) -> None:
        self.config = config
        self.evidence = torch.zeros(num_rows, config.cells, config.cells, dtype=torch.int8)
        self.centre = torch.zeros(num_rows, 2, dtype=torch.long)  # cell (z, x) around which each grid lies

    def clear(self, rows: Tensor) -> None:
        """Forget what some rows have seen."""
        self.evidence[rows] = 0

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Let rows know what others do."""
        self.evidence[rows], self.centre[rows] = self.evidence[source], self.centre[source]

    def observe(
        self,
        rows: Tensor,  # (R,) int64
        depth: Tensor,  # (R, H, W) metres along z
        c2w: Tensor,  # (R, 4, 4)
        K: Tensor,  # (3, 3) pixels
    ) -> None:
        """Take in one view of each of these rows."""
        config, place = self.config, c2w[:, None, [2, 0], 3].double()  # (R, 1, 2) z, x
        self._move(rows, place[:, 0])
        open_, blocked = _columns(depth.double(), c2w.double(), K.double(), config)
        along, away = _floor(open_, place, config)
        seen = self._votes(rows, along, _weight(away))
        hit = place + _polar(blocked[..., 0]) * (blocked[..., 1:].clamp(max=config.reach) + config.cell / 4)
        hits = self._votes(rows, hit, (blocked[..., 1] < config.reach) * _weight(blocked[..., 1]))
        seen = torch.maximum(seen, self._votes(rows, place, torch.full((len(rows), 1), MOST)))  # where the body is
        cells = self._window(rows)
        known = self.evidence[cells].long()
        free = torch.where((known <= 0) | (seen > known), torch.minimum(known.clamp(max=0), -seen), known)
        solid = torch.where((hits > 0) & (hits >= -free), torch.maximum(free, hits), free)
        self.evidence[cells] = torch.where(seen == MOST, -MOST, solid).to(torch.int8)

    def tread(
        self,
        rows: Tensor,  # (R,) int64
        path: Tensor,  # (R, F, 4, 4) where each camera has been
    ) -> None:
        """Know the floor to be free where a body has stood, whatever is seen of it later."""
        size, cell = self.config.cells, self.config.cell
        where = path[..., [2, 0], 3].double().flatten(0, 1)  # (N, 2) z, x
        step = torch.arange(-int(self.config.radius / cell), int(self.config.radius / cell) + 1)
        z, x = (self._cell(where)[:, axis, None] + step for axis in (0, 1))
        apart = ((z + 0.5) * cell - where[:, :1])[:, :, None].hypot(((x + 0.5) * cell - where[:, 1:])[:, None])
        of = rows.repeat_interleave(path.shape[1])[:, None, None]
        index = torch.broadcast_tensors(of, (z % size)[:, :, None], (x % size)[:, None])
        self.evidence[tuple(part[apart < self.config.radius] for part in index)] = -MOST

    def chart(self, row: int) -> tuple[Tensor, tuple[float, float]]:
        """Return a row's grid unwrapped, (cells, cells) over z and x, and its least z and x in metres."""
        size, least = self.config.cells, self.centre[row] - self.config.cells // 2
        z, x = ((least[axis] + torch.arange(size)) % size for axis in (0, 1))
        corner = least * self.config.cell
        return self.evidence[row][z][:, x], (float(corner[0]), float(corner[1]))

    def _move(self, rows: Tensor, where: Tensor) -> None:
        """Centre grids on places (R, 2), z and x; cells that come to stand for other places are forgotten."""
        size, new = self.config.cells, self._cell(where)
        for axis in (0, 1):
            before, after = (
                centre[:, axis, None] + (torch.arange(size) - centre[:, axis, None] + size // 2) % size
                for centre in (self.centre[rows], new)
            )
            lost = before != after
            if bool(lost.any()):
                stale = lost[:, :, None] if axis == 0 else lost[:, None]
                self.evidence[rows] = self.evidence[rows].masked_fill(stale, 0)
        self.centre[rows] = new

    def _cell(self, where: Tensor) -> Tensor:
        """Number the cells of places (..., 2) over z and x, endlessly."""
        return (where / self.config.cell).floor().long()

    @property
    def _reach(self) -> int:
        """Cells from the middle to where a view ends."""
        return math.ceil(self.config.reach / self.config.cell) + 1

    def _window(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Index the cells of these rows that a view may reach, (R, side, side)."""
        step = torch.arange(-self._reach, self._reach + 1)
        z, x = (self.centre[rows][:, axis, None] + step for axis in (0, 1))
        return rows[:, None, None], (z % self.config.cells)[:, :, None], (x % self.config.cells)[:, None]

    def _votes(self, rows: Tensor, places: Tensor, weight: Tensor) -> Tensor:
        """Spread weights (R, N) over the cells of places (R, N, 2), the largest counts; (R, side, side) int64."""
        side = 2 * self._reach + 1
        z, x = (self._cell(places) - self.centre[rows][:, None] + self._reach).unbind(-1)
        votes = torch.zeros(len(rows), side * side, dtype=torch.long)
        votes.scatter_reduce_(1, z * side + x, weight.long(), "amax")
        return votes.view(-1, side, side)

    def slide(
        self,
        rows: Tensor,  # (R,) int64
        start: Tensor,  # (R, 4, 4) where each camera is
        path: Tensor,  # (R, F, 4, 4) where it was told to go
    ) -> Tensor:
        """Return where the cameras get to, (R, F, 4, 4): motion into what is solid is lost, motion along it is kept."""
        made, before, here = path.clone(), start[:, [0, 2], 3], start[:, [0, 2], 3]
        for i in range(path.shape[1]):
            after = path[:, i, [0, 2], 3]
            here = self._walk(rows, here, after - before)
            made[:, i, 0, 3], made[:, i, 2, 3] = here.unbind(-1)
            before = after
        return made

    def _walk(self, rows: Tensor, here: Tensor, motion: Tensor) -> Tensor:
        """Move bodies at (R, 2), x and z, by ``motion`` (R, 2) as far as what is solid lets them."""
        length = float(motion.norm(dim=-1).max())
        corners = self._solid_near(rows, here, self.config.radius + 2 * length)
        if bool((corners == math.inf).all()):
            return here + motion
        parts = max(1, math.ceil(length / STEP))
        for _ in range(parts):
            here = self._pushed(here, motion / parts, corners)
        return here

    def _pushed(self, here: Tensor, motion: Tensor, corners: Tensor) -> Tensor:
        """Move a little, and out of what is touched; who touches something already may come no nearer to it."""
        room = _clearance(here, corners, self.config.cell)[0].clamp(max=self.config.radius)
        goal = here + motion
        clear, away = _clearance(goal, corners, self.config.cell)
        for _ in range(ROUNDS):
            if bool((clear >= room).all()):
                break
            goal = goal + (room - clear).clamp(min=0)[:, None] * away
            clear, away = _clearance(goal, corners, self.config.cell)
        moves = ((goal - here) * motion).sum(-1) > 0  # a push alone moves nobody
        return torch.where((moves & (clear >= room - SLACK))[:, None], goal, here)

    def _solid_near(self, rows: Tensor, where: Tensor, reach: float) -> Tensor:
        """Return the lower corners (x, z) of solid cells around places (R, 2), (R, N, 2); the others lie far away."""
        size, cell = self.config.cells, self.config.cell
        step = torch.arange(-math.ceil(reach / cell) - 1, math.ceil(reach / cell) + 2)
        middle = self._cell(where)  # x, z
        x, z = middle[:, 0, None] + step, middle[:, 1, None] + step
        solid = self.evidence[rows[:, None, None], (z % size)[:, :, None], (x % size)[:, None]] > 0
        corner = torch.stack(torch.broadcast_tensors(x[:, None], z[:, :, None]), -1) * cell
        return torch.where(solid[..., None], corner.double(), math.inf).flatten(1, 2)


def _polar(heading: Tensor) -> Tensor:
    """Return unit vectors (..., 2) over z and x."""
    return torch.stack([heading.cos(), heading.sin()], -1)


def _weight(distance: Tensor) -> Tensor:
    """Return what a view from so far away counts."""
    return 1 + (distance < MIDDLE).long() + 2 * (distance < NEAR).long()


def _clearance(
    place: Tensor,  # (R, 2)
    corners: Tensor,  # (R, N, 2) lower corners of square cells
    cell: float,
) -> tuple[Tensor, Tensor]:
    """Return the distance to the nearest cell (R,), infinite without one, and the direction away from it (R, 2)."""
    offset = place[:, None] - torch.minimum(torch.maximum(place[:, None], corners), corners + cell)
    distance, nearest = offset.norm(dim=-1).nan_to_num(math.inf).min(1)
    away = offset[torch.arange(len(place)), nearest].nan_to_num(0, 0, 0)
    return distance, away / away.norm(dim=-1, keepdim=True).clamp(min=1e-9)


def _columns(depth: Tensor, c2w: Tensor, K: Tensor, config: WallsConfig) -> tuple[Tensor, Tensor]:
    """Return heading and distance of the end of the free floor and of what stands there, each (R, W, 2).

    Where nothing stands there, its distance is infinite.
    """
    offset = unproject(depth.clamp(max=FAR), c2w, K) - c2w[:, None, None, :3, 3]  # (R, H, W, 3), y down
    distance, above = offset[..., [0, 2]].norm(dim=-1), -offset[..., 1]
    heading = torch.atan2(offset[..., 0], offset[..., 2])
    low, high = config.height
    blocks = (above > low) & (above < high) & (depth < math.inf)
    nearest, row = distance.masked_fill(~blocks, math.inf).min(1)  # (R, W)
    floor = distance.masked_fill(above > low, 0).amax(1)  # what lies lower is floor, and one sees over it
    end = torch.where(nearest < math.inf, nearest * (1 - config.margin) - config.cell / 2, floor)
    at = heading.gather(1, row[:, None])[:, 0]
    at = torch.where(nearest < math.inf, at, heading[:, heading.shape[1] // 2])
    free = torch.stack([at, end.clamp(0, config.reach)], -1)
    return free, torch.stack([at, nearest], -1)


def _floor(free: Tensor, place: Tensor, config: WallsConfig) -> tuple[Tensor, Tensor]:
    """Return places on the free floor of every column, (R, N, 2) z and x, and how far away they lie, (R, N)."""
    share = torch.linspace(0, 1, math.ceil(2 * config.reach / config.cell), dtype=torch.float64)
    away = share * free[..., 1:]  # (R, W, N)
    return (place[:, :, None] + away[..., None] * _polar(free[..., :1])).flatten(1, 2), away.flatten(1)


def floor_shown(
    depth: Tensor,  # (R, H, W) metres along z
    c2w: Tensor,  # (R, 4, 4)
    K: Tensor,  # (3, 3) pixels
    config: WallsConfig,
) -> Tensor:
    """Return cells of the floor that views show to be free, (R, N, 2) int64 over z and x, some of them repeatedly."""
    free, _ = _columns(depth.double(), c2w.double(), K.double(), config)
    return (_floor(free, c2w[:, None, [2, 0], 3].double(), config)[0] / config.cell).floor().long()
