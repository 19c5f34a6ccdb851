"""The tables of sink, pool and window: growth, budgets, what is read, and who holds which page."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.dynamics.signals import Track
from worldenv.geometry.action import ActionSteps, camera_to_c2w, keys_to_camera
from worldenv.memory.config import Layout, MemoryConfig
from worldenv.memory.worldscape import WorldScapeMemory
from worldenv.models.kv_cache import PagePool

CHUNK = 4
LAYOUT = Layout(CHUNK)
CONFIG = MemoryConfig(policy="worldscape", scale=2.0)
STEPS = ActionSteps()
ROW = torch.zeros(1, dtype=torch.long)


def walk(keys: list[tuple[int, int]]) -> torch.Tensor:
    """Poses (F, 4, 4) of latents under these (move, turn) keys, the start first."""
    start = torch.eye(4, dtype=torch.float64)
    camera = keys_to_camera(torch.tensor(keys))
    return torch.cat([start[None], camera_to_c2w(camera, start, STEPS)])


def fill(memory: WorldScapeMemory, path: torch.Tensor, rows: torch.Tensor = ROW) -> None:
    """Remember the start view and every whole chunk of a path; a page has its latent's number."""
    for part in LAYOUT.parts(len(path)):
        count = part.stop - part.start
        number = torch.arange(part.start, part.stop, dtype=torch.int32).expand(len(rows), -1)
        if memory.pool is not None:
            new = torch.zeros(1, len(rows), count, 1, 1, 4)
            number = memory.pool.store(new, new)
        memory.add(rows, Track(c2w=path[part].expand(len(rows), -1, 4, 4)), number)


def loop(laps: int) -> torch.Tensor:
    """A square of 4 m sides, walked around ``laps`` times: 16 steps ahead, then a quarter turn on the spot."""
    side = [(1, 0)] * 16 + [(0, 1)] * 8
    return walk(side * 4 * laps)


def make(budget: int = 0, num_envs: int = 1, **changes: object) -> WorldScapeMemory:
    return WorldScapeMemory(replace(CONFIG, pool_entries=budget, **changes), LAYOUT, num_envs)


@pytest.mark.parametrize("laps", [2, 3, 5])
def test_laps_of_one_loop_hold_what_one_lap_holds(laps: int) -> None:
    one, many = make(), make()
    fill(one, loop(1))
    fill(many, loop(laps))
    assert int(one.pool_size) >= 6
    assert abs(int(many.pool_size) - int(one.pool_size)) <= 1 + one.window, "the window of the first lap is new ground"
    longer = make()
    fill(longer, loop(laps + 1))
    assert abs(int(longer.pool_size) - int(many.pool_size)) <= 1


def test_new_ground_grows_the_pool_to_its_budget_and_keeps_the_extremes() -> None:
    straight = walk([(1, 0)] * 400)  # 100 m, a chunk is 1 m
    sizes = []
    for length in (41, 81, 161, 401):
        memory = make(budget=12)
        fill(memory, straight[:length])
        sizes.append(int(memory.pool_size))
    assert sizes[0] < sizes[1] <= 12
    assert 9 <= min(sizes[2:]) <= max(sizes) <= 12
    places = memory.c2w[0, 1 : 1 + sizes[3], 2, 3]
    assert places.max() - places.min() > 85, "both ends of the way are still there"
    gaps = places.sort().values.diff()
    assert gaps.max() < 25, "and no stretch between them is forgotten"


@pytest.mark.parametrize("budget", [0, 2, 8])
def test_the_sink_never_leaves(budget: int) -> None:
    memory = make(budget=budget)
    fill(memory, walk([(1, 1)] * 200 + [(1, 0)] * 200))
    assert int(memory.entry[0, 0]) == 0
    assert memory.pages[0, 0].tolist() == [-1, -1, -1, 0]


def test_what_is_read_is_sink_retrieved_and_window_in_order_of_time() -> None:
    memory = make()
    path = walk([(1, 0)] * 40 + [(0, 1)] * 16 + [(1, 0)] * 40)  # ahead 10 m, turn round, back
    fill(memory, path)
    facing_start = path[9:13]  # where chunk 3 was seen from
    reading = memory.read(ROW, Track(c2w=facing_start[None]))
    assert memory.slots == reading.index.shape[1] == 1 + CHUNK + 12
    assert int(reading.retrieved) in (2, 3, 4), "the pool's view that is most like the coming chunk"
    assert float(reading.score) > 0.8
    index = reading.index[0].tolist()
    newest = (len(path) - 1) // CHUNK * CHUNK
    chosen = LAYOUT.members(reading.retrieved[0, 0]).tolist()
    assert index == [0, *chosen, *range(newest - 11, newest + 1)]
    assert reading.pages[0].tolist() == index, "pages are those of the latents"


def test_twins_are_not_retrieved_together() -> None:
    path = walk([(1, 0)] * 80)
    near, apart = make(gain=-1.0, retrieved_chunks=2, suppress=1.0), make(gain=-1.0, retrieved_chunks=2, suppress=0.8)
    gaps = []
    for memory in (near, apart):
        fill(memory, path)
        a, b = memory.read(ROW, Track(c2w=path[20:24][None])).retrieved[0].tolist()
        gaps.append(abs(a - b))
    assert gaps[0] == 1
    assert gaps[1] >= 2


def test_while_little_is_known_slots_stay_empty_on_the_left() -> None:
    memory = make()
    assert (memory.read(ROW, Track(c2w=torch.eye(4).expand(1, 4, 4, 4))).index == -1).all()
    fill(memory, walk([(1, 0)] * 8))
    reading = memory.read(ROW, Track(c2w=torch.eye(4).expand(1, 4, 4, 4)))
    assert reading.index[0].tolist() == [-1] * 8 + list(range(9))
    assert (reading.pages[0] == reading.index[0]).all()
    assert reading.retrieved.tolist() == [[-1]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 6))
def test_rows_are_independent_and_pages_are_held_once_each(seed: int, budget: int) -> None:
    """Three rows on their own random walks equal single rows; the pool holds exactly the pages in the tables."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(10, 90, 3)
    paths = [walk([tuple(k) for k in rng.integers(0, 3, (n, 2))]) for n in lengths]
    pool = PagePool(1, (1, 1, 4), dtype=torch.float32)
    config = replace(CONFIG, pool_entries=budget)
    together = WorldScapeMemory(config, LAYOUT, 3, pool=pool)
    query = paths[0][:4][None]
    for row, path in enumerate(paths):
        fill(together, path, torch.tensor([row]))
        alone = make(budget=budget)
        fill(alone, path)
        asked = Track(c2w=query)
        assert torch.equal(alone.read(ROW, asked).index, together.read(torch.tensor([row]), asked).index)
        assert not budget or int(together.pool_size[row]) <= budget
    held = together.pages[together.pages >= 0]
    assert len(held.unique()) == len(held) == pool.num_used
    together.clear(torch.tensor([1]))
    assert pool.num_used == int((together.pages >= 0).sum())
    together.take(torch.tensor([1]), together, torch.tensor([0]))
    shared = together.pages[0][together.pages[0] >= 0].long()
    assert (pool.references[shared] == 2).all(), "a fork shares the pages"
    together.clear(torch.tensor([0]))
    assert (pool.references[shared] == 1).all()
    together.clear(torch.tensor([1, 2]))
    assert pool.num_used == 0


def test_budgets_in_bytes() -> None:
    pool = PagePool(2, (3, 2, 8), dtype=torch.float32)
    assert pool.page_bytes == 2 * 2 * 3 * 2 * 8 * 4
    entry = CHUNK * pool.page_bytes
    config = replace(CONFIG, pool_bytes=5 * (1 + 3 + 7) * entry, pool_entries=100)
    assert WorldScapeMemory(config, LAYOUT, 5, pool=pool).budget == 7
    assert WorldScapeMemory(replace(config, pool_entries=4), LAYOUT, 5, pool=pool).budget == 4
    with pytest.raises(ValueError, match="sink and window take 4"):
        WorldScapeMemory(replace(config, pool_bytes=entry), LAYOUT, 5, pool=pool)
