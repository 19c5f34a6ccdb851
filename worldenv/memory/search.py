"""The best overlaps among thousands of stored views, exactly, by bounds first and points for the few that remain.

An overlap counts the points of the query's view that a stored view sees too. Seen from above only three numbers of the
stored view matter: where it stands and where it looks, in the query's frame. A table over these three numbers, made
once per set of points, holds how many points a view from anywhere in a cell of it can see at most; whoever's bound is
below the best exact score need not be counted. No point is ever left out of a count, so the choice is that of counting
everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .retrieval import count_seen, polynomials, view_points

CELL = 0.25
"""Metres of a cell of the table, at a radius of 8 m."""
YAW_BINS = 144
"""Cells of the viewing direction: 2.5 degrees each."""
LEVEL_HEIGHT = 0.1
"""Metres of height, at a radius of 8 m, within which a view counts as level with the query."""
LEVEL_PITCH = math.radians(1.0)
"""Pitch in the query's frame within which it does."""
FIRST = 8
"""Candidates counted before bounds are compared with the best, shared among the rows, at least 2; then ever more."""


@dataclass(frozen=True)
class BoundTable:
    """How many of the query's points a view can see at most, by where it stands and looks in the query's frame."""

    level: Tensor  # (X Z Y,) int16: for views at the query's height that look level
    any: Tensor  # (X Z Y,) int16: for all others
    cell: float
    cells: int  # along x and along z

    def lookup(
        self,
        where: Tensor,  # (..., 3) position in the query's frame
        ahead: Tensor,  # (..., 3) viewing direction in the query's frame
    ) -> Tensor:
        """Return the largest possible counts, (...) int32."""
        half = self.cells // 2
        x = (where[..., 0] / self.cell).floor_().add_(half)
        z = (where[..., 2] / self.cell).floor_().add_(half)
        outside = (x < 0) | (x >= self.cells) | (z < 0) | (z >= self.cells)
        yaw = torch.atan2(ahead[..., 0], ahead[..., 2]).mul_(YAW_BINS / (2 * math.pi)).floor_().add_(YAW_BINS // 2)
        index = ((x * self.cells + z) * YAW_BINS + yaw.clamp_(0, YAW_BINS - 1)).masked_fill_(outside, 0).int()
        scale = self.cell / CELL
        tilted = where[..., 1].abs() > 0.99 * LEVEL_HEIGHT * scale
        tilted |= ahead[..., 1].abs() > 0.99 * math.sin(LEVEL_PITCH)
        counts = torch.where(tilted, self.any[index], self.level[index]) if tilted.any() else self.level[index]
        return counts.int().masked_fill_(outside, 0)


@lru_cache(maxsize=4)
def bound_table(num_points: int, *, radius: float, seed: int, fov_deg: tuple[float, float]) -> BoundTable:
    """Make the table for ``view_points`` of these numbers; takes about a second, once."""
    return make_table(view_points(num_points, radius=radius, seed=seed, fov_deg=fov_deg), radius, fov_deg)


def make_table(
    points: Tensor,  # (P, 3) in the query's view
    radius: float,
    fov_deg: tuple[float, float],
) -> BoundTable:
    """Count for every cell the points that some view in it may see."""
    cell = CELL * radius / 8
    cells = 2 * math.ceil(2 * radius / cell)
    centre = (torch.arange(cells) - cells // 2 + 0.5) * cell
    reach = cell / math.sqrt(2)  # from a cell's centre to its corner
    flat = points.float()
    counts: dict[str, list[Tensor]] = {"level": [], "any": []}
    for x in centre:  # one row of cells at a time
        dx, dz = flat[:, 0] - x, flat[:, 2] - centre[:, None]
        far = torch.hypot(dx.expand_as(dz), dz)
        near = far < radius + reach
        slack = torch.asin((reach / far.clamp(min=reach)).clamp(max=1)) + math.pi / YAW_BINS + 1e-4
        half = (math.radians(fov_deg[0]) / 2 + slack).clamp(max=math.pi)
        azimuth = torch.atan2(dx.expand_as(dz), dz)
        steep = math.tan(min(math.radians(fov_deg[1]) / 2 + LEVEL_PITCH, 1.5))
        low = flat[:, 1].abs() - LEVEL_HEIGHT * radius / 8 < steep * (far + reach)
        for name, seen in (("level", near & low), ("any", near)):
            counts[name].append(_by_yaw(azimuth, half, seen))
    level, any_ = (torch.cat(counts[name]).flatten() for name in ("level", "any"))
    return BoundTable(level, any_, cell, cells)


def _by_yaw(azimuth: Tensor, half: Tensor, seen: Tensor) -> Tensor:
    """Count for every yaw bin the points within ``half`` of its middle; (cells, YAW_BINS) int16."""
    width = 2 * math.pi / YAW_BINS
    first = ((azimuth - half) / width + YAW_BINS / 2 - 0.5).ceil().long()
    last = ((azimuth + half) / width + YAW_BINS / 2 - 0.5).floor().long()
    whole = last - first >= YAW_BINS - 1
    first, last = first.masked_fill(whole, 0), last.masked_fill(whole, YAW_BINS - 1)
    one = seen.to(torch.int32)
    # Starts and ends of runs over three turns, added up and folded into one.
    edges = torch.zeros(len(azimuth), 3 * YAW_BINS + 1, dtype=torch.int32)
    edges.scatter_add_(1, first + YAW_BINS, one)
    edges.scatter_add_(1, last + YAW_BINS + 1, -one)
    return edges.cumsum(1)[:, :-1].unflatten(1, (3, YAW_BINS)).sum(1).to(torch.int16)


@dataclass(frozen=True)
class Views:
    """The V views that stand for each of some entries, by their places in a history."""

    c2w: Tensor  # (B, M, 4, 4) float64
    index: Tensor  # (E, V) int64
    entry: Tensor  # (E,) int64, ascending: which entries these are

    def poses(self, row: Tensor, column: Tensor) -> Tensor:
        """Return the views of some entries, (N, V, 4, 4)."""
        return self.c2w[row[:, None], self.index[column]]


def all_overlaps(
    query: Tensor,  # (B, F, 4, 4) float64
    history: Views,  # of E entries
    points: Tensor,  # (P, 3) float64, in the query's view
    *,
    fov_deg: tuple[float, float],
    radius: float,
    penalty: Tensor | None = None,  # (B, E) float64, subtracted from overlaps
) -> Tensor:
    """Count everything: the overlap of every entry, mean over queries and views, less the penalty; (B, E) float64."""
    views = history.c2w[:, history.index]
    asked, stored = torch.broadcast_tensors(query[:, None, :, None], views[:, :, None])
    shape, features = stored.shape[:-2], polynomials(points)
    seen = count_seen(asked.reshape(-1, 4, 4), stored.reshape(-1, 4, 4), features, fov_deg=fov_deg, radius=radius)
    whole = shape[2] * shape[3] * len(points)
    total = seen.view(shape).sum((2, 3)).double()
    return (total if penalty is None else total - whole * penalty) / whole


def best_overlaps(
    query: Tensor,  # (B, F, 4, 4) float64
    history: Views,  # of E entries: all that may share a point with a query, and the first ``keep``
    count: Tensor,  # (B,) int64: entries of each row; later ones do not exist
    points: Tensor,  # (P, 3) float64, in the query's view
    table: BoundTable,
    *,
    keep: int,
    fov_deg: tuple[float, float],
    radius: float,
    penalty: Tensor | None = None,  # (B, E) float64, subtracted from overlaps
    near: Tensor | None = None,  # (B, E) bool: no other entry can share a point with its row's queries
) -> tuple[Tensor, Tensor]:
    """Find the ``keep`` entries of every row that overlap most, ties to the earliest.

    Returns:
        Entries, best first, -1 where there are none, and their overlap (mean over queries and views) less the penalty,
        each (B, keep) float64.
    """
    exists = history.entry < count[:, None]
    bound = _bounds(query, history, exists if near is None else exists & near, table, radius)
    bound = bound.double().masked_fill_(~exists, float("-inf"))
    pairs, entries = query.shape[1] * history.index.shape[1], len(history.entry)
    whole, features = pairs * len(points), polynomials(points)
    if penalty is not None:
        bound -= whole * penalty
    exact = torch.full(bound.shape, float("-inf"), dtype=torch.float64)
    size = max(2, FIRST // len(query))
    while True:
        # What is below the worst that would be kept cannot enter; the others are counted, most promising first.
        worst = exact.topk(min(keep, entries), dim=1).values[:, -1:]
        hopeless = (exact > float("-inf")) | (bound < worst)
        limit, candidate = bound.masked_fill(hopeless, float("-inf")).topk(min(size, entries), dim=1)
        row, place = (limit > float("-inf")).nonzero(as_tuple=True)
        if not len(row):
            break
        column = candidate[row, place]
        asked, stored = torch.broadcast_tensors(query[row][:, :, None], history.poses(row, column)[:, None])
        seen = count_seen(asked.reshape(-1, 4, 4), stored.reshape(-1, 4, 4), features, fov_deg=fov_deg, radius=radius)
        exact[row, column] = seen.view(len(row), pairs).sum(1).double()
        if penalty is not None:
            exact[row, column] -= whole * penalty[row, column]
        size *= 2
    best, value = top(exact / whole, keep)
    return torch.where(best >= 0, history.entry[best.clamp(min=0)], -1), value


def top(
    score: Tensor,  # (B, E), -inf where there is no entry
    keep: int,
) -> tuple[Tensor, Tensor]:
    """Return the best entries, ties to the first, and their scores, each (B, keep); -1 and 0 where there are none."""
    best = score.argsort(dim=1, descending=True, stable=True)[:, :keep]
    value = score.gather(1, best)
    found = value > float("-inf")
    return torch.where(found, best, -1), value.where(found, 0)


def _bounds(query: Tensor, history: Views, near: Tensor, table: BoundTable, radius: float) -> Tensor:
    """Return the largest counts that entries can have over all queries and views, (B, E) int32."""
    middle = query[:, :, :3, 3].mean(1)
    reach = 2 * radius + (query[:, :, :3, 3] - middle[:, None]).norm(dim=-1).amax(1) + 1e-3
    bound = torch.zeros(near.shape, dtype=torch.int32)
    row, column = near.nonzero(as_tuple=True)
    where = history.c2w[row[:, None], history.index[column], :3, 3]  # (n, V, 3)
    close = ((where - middle[row, None]).square_().sum(-1) < reach[row, None].square()).any(-1)
    row, column = row[close], column[close]
    if not len(row):
        return bound
    views = history.poses(row, column)  # (n, V, 4, 4)
    where, ahead = (views[..., :3, 3] - middle[row, None]).float(), views[..., :3, 2].float()
    rotation = query[:, :, :3, :3].float()  # (B, F, 3, 3)
    turn = rotation.movedim(1, 2).flatten(2)[row]  # (n, 3, F 3): all query frames side by side
    origin = ((query[:, :, :3, 3] - middle[:, None]).float()[:, :, None] @ rotation)[row]  # (n, F, 1, 3)
    shape = (len(row), views.shape[1], query.shape[1], 3)
    where, ahead = ((t @ turn).view(shape).transpose(1, 2) for t in (where, ahead))  # (n, F, V, 3)
    bound[row, column] = table.lookup(where - origin, ahead).sum((1, 2), dtype=torch.int32)
    return bound
