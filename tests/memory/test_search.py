"""Bounds that never leave out the best: the search against counting every point of every view."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.dynamics.signals import Track
from worldenv.geometry.pose import look
from worldenv.memory.bank import MemoryBank
from worldenv.memory.config import Layout, MemoryConfig
from worldenv.memory.retrieval import count_seen, fov_overlap, polynomials, view_points
from worldenv.memory.search import YAW_BINS, Views, all_overlaps, best_overlaps, make_table
from worldenv.memory.select import FEW, Query, select

FOV, RADIUS, NUM = (60.0, 35.0), 8.0, 3000
POINTS = view_points(NUM, radius=RADIUS, seed=0, fov_deg=FOV)
TABLE = make_table(POINTS, RADIUS, FOV)


def cameras(rng: np.random.Generator, *shape: int, extent: float = 12.0, tilt: float = 0.0) -> torch.Tensor:
    """Random cameras within ``extent`` metres; ``tilt`` is the share that neither look level nor stand level."""
    where = torch.from_numpy(rng.uniform(-extent, extent, (*shape, 3)))
    tilted = torch.from_numpy(rng.random(shape) < tilt)
    where[..., 1] *= tilted * 0.1
    yaw, pitch = (torch.from_numpy(rng.uniform(-a, a, shape)) for a in (math.pi, 0.4))
    return look(where, yaw, pitch * tilted)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    tilt=st.sampled_from([0.0, 0.3]),
    keep=st.integers(1, 3),
    weight=st.sampled_from([0, 0.5]),
)
def test_the_search_chooses_what_counting_everything_chooses(seed: int, tilt: float, keep: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    history, query = cameras(rng, 2, 60, 2, tilt=tilt), cameras(rng, 2, 4, extent=1.0, tilt=tilt)
    history[:, 30:] = history[:, :30]  # ties, which go to the earliest
    stored = Views(history.flatten(1, 2), torch.arange(120).view(60, 2), torch.arange(60))
    count = torch.tensor([60, int(rng.integers(1, 60))])
    penalty = torch.from_numpy(rng.random((2, 60))) * weight if weight else None
    shared = {"fov_deg": FOV, "radius": RADIUS, "penalty": penalty}
    score = all_overlaps(query, stored, POINTS, **shared)  # type: ignore[arg-type]
    found, value = best_overlaps(query, stored, count, POINTS, TABLE, keep=keep, **shared)  # type: ignore[arg-type]
    for row in range(2):
        known = score[row, : count[row]]
        wanted = known.argsort(descending=True, stable=True)[:keep]
        assert found[row, : len(wanted)].tolist() == wanted.tolist()
        torch.testing.assert_close(value[row, : len(wanted)], known[wanted], atol=0, rtol=0)
        assert (found[row, len(wanted) :] == -1).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([0, 0.5]))
def test_rows_that_see_nothing_again_take_the_earliest(seed: int, keep: int, weight: float) -> None:
    """One row far from all its views, one among them, one with a single view in reach: as when counting everything."""
    rng = np.random.default_rng(seed)
    history, query = cameras(rng, 3, 40, 2, extent=1.0), cameras(rng, 3, 4, extent=1.0)
    history[:, :10, :, 0, 3] += 400
    history[0, ..., 0, 3] += 200
    history[2, ..., 0, 3] += 200
    history[2, 25] = query[2, 0]
    stored, count = (
        Views(history.flatten(1, 2), torch.arange(80).view(40, 2), torch.arange(40)),
        torch.tensor([40, 40, 40]),
    )
    penalty = torch.from_numpy(rng.random((3, 40))) * weight if weight else None
    shared = {"fov_deg": FOV, "radius": RADIUS, "penalty": penalty}
    score = all_overlaps(query, stored, POINTS, **shared)  # type: ignore[arg-type]
    found, value = best_overlaps(query, stored, count, POINTS, TABLE, keep=keep, **shared)  # type: ignore[arg-type]
    wanted = score.argsort(dim=1, descending=True, stable=True)[:, :keep]
    assert torch.equal(found, wanted)
    torch.testing.assert_close(value, score.gather(1, wanted), atol=0, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0]))
def test_bounds_hold(seed: int, tilt: float) -> None:
    rng = np.random.default_rng(seed)
    views = cameras(rng, 200, extent=9.0, tilt=tilt)
    here = torch.eye(4, dtype=torch.float64).expand(200, 4, 4)
    seen = count_seen(here, views, polynomials(POINTS), fov_deg=FOV, radius=RADIUS)
    bound = TABLE.lookup(views[:, :3, 3].float(), views[:, :3, 2].float())
    assert (seen <= bound).all()
    assert (bound <= len(POINTS)).all()


def test_bounds_are_tight_enough_to_be_worth_having() -> None:
    views = cameras(np.random.default_rng(0), 2000, extent=6.0)
    here = torch.eye(4, dtype=torch.float64).expand(2000, 4, 4)
    seen = count_seen(here, views, polynomials(POINTS), fov_deg=FOV, radius=RADIUS)
    bound = TABLE.lookup(views[:, :3, 3].float(), views[:, :3, 2].float())
    assert float((bound - seen).double().mean()) < 0.05 * len(POINTS)


def test_the_table_counts_points_by_hand() -> None:
    """One point ahead: views that look at it from somewhere may see it, views that look away may not."""
    table = make_table(torch.tensor([[0.0, 0.0, 4.0]], dtype=torch.float64), RADIUS, FOV)
    for x, z, yaw, may in (
        (0, 0, 0, 1),
        (0, 0, 180, 0),
        (0, 7.9, 180, 1),
        (0, 7.9, 0, 0),
        (0, -5.0, 0, 0),
        (3, 4, -90, 1),
    ):
        where = torch.tensor([float(x), 0.0, float(z)])
        ahead = torch.tensor([math.sin(math.radians(yaw)), 0.0, math.cos(math.radians(yaw))])
        assert int(table.lookup(where, ahead)) == may, (x, z, yaw)
    assert len(table.level) == table.cells**2 * YAW_BINS


@pytest.mark.parametrize("length", [4 * FEW, 4 * FEW + 60])
def test_selection_does_not_depend_on_how_it_was_found(length: int) -> None:
    """A bank just small enough to count everything and one that is searched, against plain overlaps."""
    rng = np.random.default_rng(length)
    poses = cameras(rng, length + 1, extent=6.0)
    bank = MemoryBank.empty((1, 1, 1), Track(c2w=poses[None, :1]))
    bank.append(torch.zeros(1).long(), torch.zeros(1, length + 1, 1, 1, 1), Track(c2w=poses[None]))
    config, layout = MemoryConfig(num_points=NUM, radius=RADIUS), Layout(4)
    query = cameras(rng, 1, 4, extent=1.0)
    found = select(bank, Query(Track(c2w=query)), config, layout)
    count = (length + 1 - 12 + 3) // 4
    scores = []
    for entry in range(count):
        members = layout.members(torch.tensor(entry))
        views = [max(int(members[0]), int(members.max()) if entry == 0 else 0), int(members[2]) if entry else 0]
        scores.append(float(fov_overlap(query[0], poses[views], POINTS).mean()))
    assert float(found.score) == pytest.approx(max(scores))
    assert int(found.retrieved) == int(np.argmax(np.round(scores, 12)))


def test_near_ones_can_be_preferred() -> None:
    """A view from behind that shows much and one from here that looks elsewhere: the distance term turns the choice."""
    poses = look(torch.tensor([[0, 0, -2.0], [0, 0, -0.1]]).double(), torch.tensor([0.0, math.radians(50)]).double())
    away = look(torch.tensor([50.0, 0, 0]).double().expand(17, 3), torch.full((17,), math.pi).double())
    path = torch.cat([away[:1], poses[:1].expand(4, 4, 4), poses[1:].expand(4, 4, 4), away[:16]])
    bank = MemoryBank.empty((1, 1, 1), Track(c2w=path[None, :1]))
    bank.append(torch.zeros(1).long(), torch.zeros(1, 25, 1, 1, 1), Track(c2w=path[None]))
    query = Query(Track(c2w=look(torch.zeros(1, 4, 3).double(), torch.zeros(1, 4).double())))
    plain = MemoryConfig(num_points=NUM)
    configs = (plain, replace(plain, distance_weight=5.0))
    assert [int(select(bank, query, config, Layout(4)).retrieved) for config in configs] == [1, 2]
