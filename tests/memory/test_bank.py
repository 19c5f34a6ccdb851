import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.memory.bank import REGION, MemoryBank

SHAPE = (2, 3, 4)
STILL = WorldSpec().still


def entries(rows: int, count: int, seed: int = 0) -> tuple[torch.Tensor, Track]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, count, *SHAPE, generator=generator)
    c2w = torch.randn(rows, count, 4, 4, generator=generator, dtype=torch.float64)
    return latents, Track(keys=torch.randint(0, 9, (rows, count, 2), generator=generator), c2w=c2w)


def test_appended_entries_are_kept_in_order_and_survive_growth() -> None:
    bank = MemoryBank.empty(SHAPE, STILL(2), capacity=4)
    parts = [entries(2, 3, seed) for seed in range(5)]
    for part in parts:
        bank.append(torch.arange(2), *part)
    assert bank.length.tolist() == [15, 15]
    assert bank.latents.shape[1] >= 15
    assert torch.equal(bank.latents[:, :15], torch.cat([latents for latents, _ in parts], 1))
    assert bank.track.keys() == {"keys", "c2w"}
    for name, held in bank.track.items():
        assert torch.equal(held[:, :15], torch.cat([track[name] for _, track in parts], 1))
    assert bank.c2w is bank.track["c2w"]


def test_rows_grow_apart_and_do_not_touch_each_other() -> None:
    bank = MemoryBank.empty(SHAPE, STILL(3), capacity=2)
    everyone, some = entries(3, 2), entries(2, 5, 1)
    bank.append(torch.arange(3), *everyone)
    bank.append(torch.tensor([2, 0]), *some)
    assert bank.length.tolist() == [7, 2, 7]
    assert torch.equal(bank.latents[1, :2], everyone[0][1])
    assert torch.equal(bank.latents[2, 2:7], some[0][0])
    assert torch.equal(bank.latents[0, 2:7], some[0][1])
    assert torch.equal(bank.track["keys"][0, :7], torch.cat([everyone[1]["keys"][0], some[1]["keys"][1]]))


def test_clearing_forgets_the_given_rows_only() -> None:
    bank = MemoryBank.empty(SHAPE, STILL(2))
    bank.append(torch.arange(2), *entries(2, 5))
    bank.clear(torch.tensor([0]))
    fresh = entries(1, 2, 9)
    bank.append(torch.tensor([0]), *fresh)
    assert bank.length.tolist() == [2, 5]
    assert torch.equal(bank.latents[0, :2], fresh[0][0])
    assert torch.equal(bank.latents[1, :5], entries(2, 5)[0][1])


def test_no_rows_is_no_operation() -> None:
    bank = MemoryBank.empty(SHAPE, STILL(2))
    bank.append(torch.zeros(0, dtype=torch.long), *entries(0, 3))
    assert bank.length.tolist() == [0, 0]


def test_stored_without_graph_in_fixed_types() -> None:
    bank = MemoryBank.empty(SHAPE, STILL(1))
    latents, track = entries(1, 1)
    given = Track(keys=track["keys"].int(), c2w=track["c2w"].float())
    bank.append(torch.arange(1), latents.bfloat16().requires_grad_(), given)
    assert bank.latents.dtype == torch.float32
    assert not bank.latents.requires_grad
    assert bank.c2w.dtype == torch.float64
    assert bank.track["keys"].dtype == torch.int64


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_latent_within_reach_is_outside_the_near_regions(seed: int) -> None:
    """Whatever rows were appended to, cleared and forked onto before."""
    generator = torch.Generator().manual_seed(seed)
    bank = MemoryBank.empty((1, 1, 1), STILL(3), capacity=2)
    for _ in range(12):
        rows = torch.randperm(3, generator=generator)[: int(torch.randint(1, 4, (1,), generator=generator))]
        count = int(torch.randint(1, REGION, (1,), generator=generator))
        c2w = 20 * torch.randn(len(rows), count, 4, 4, generator=generator, dtype=torch.float64)
        bank.append(
            rows, torch.zeros(len(rows), count, 1, 1, 1), Track(keys=torch.zeros(len(rows), count, 2).long(), c2w=c2w)
        )
        if torch.rand(1, generator=generator) < 0.2:
            bank.clear(rows[:1])
        if torch.rand(1, generator=generator) < 0.2 and len(rows) > 1:
            bank.fork(rows[:1], rows[1:2])
    where = 20 * torch.randn(3, 2, 3, generator=generator, dtype=torch.float64)
    near = bank.near(where, 15.0)
    for row, length in enumerate(bank.length.tolist()):
        close = (torch.cdist(bank.c2w[row, :length, :3, 3], where[row]) < 15).any(1)
        assert near[row, close.nonzero()[:, 0] // REGION].all()
    assert torch.equal(MemoryBank(bank.latents, bank.track, bank.length).near(where, 15.0), torch.ones_like(near))


def test_far_regions_are_left_out() -> None:
    path = torch.eye(4, dtype=torch.float64).repeat(1, 10 * REGION, 1, 1)
    bank = MemoryBank.empty((1, 1, 1), Track(c2w=path[:, :1]))
    path[..., 0, 3] = torch.arange(10 * REGION) * 0.25
    bank.append(torch.zeros(1).long(), torch.zeros(1, 10 * REGION, 1, 1, 1), Track(c2w=path))
    near = bank.near(path[:, -1:, :3, 3], REGION * 0.25 + 0.1)
    assert near.tolist() == [[False] * 8 + [True] * 2]


def test_frames_and_depth_grow_spill_and_are_copied_with_the_latents() -> None:
    """What entries show lies at their latents, in memory or in a file; forks take it along, clearing forgets whose."""
    size, rows = (4, 6), torch.arange(2)
    bank = MemoryBank.empty(SHAPE, STILL(2), capacity=2, max_bytes=512, frame_size=size, every=4)
    bank.append(rows, *entries(2, 9))
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (2, 3, *size, 3), dtype=torch.uint8, generator=generator)
    depth, index = torch.rand(2, 3, *size, generator=generator), torch.tensor([0, 4, 8]).expand(2, -1)
    bank.show(rows, index, frames, depth)
    bank.given[:] = torch.tensor([9, 1])
    bank.append(rows, *entries(2, 40, 1))
    assert bank.frames is not None
    assert bank.depth is not None
    assert bank.frames.shape[1] == bank.depth.shape[1] == bank.latents.shape[1] // 4 + 1
    assert torch.equal(bank.shown(index)[0], frames)
    assert torch.equal(bank.shown(index)[1], depth.half())
    assert torch.equal(bank.shown(index)[2], bank.c2w[:, [0, 4, 8]])
    bank.fork(torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(bank.shown(index)[0][1], frames[0])
    assert bank.given.tolist() == [9, 9]
    bank.clear(torch.tensor([0]))
    assert bank.given.tolist() == [0, 9]
    assert not MemoryBank.empty(SHAPE, STILL(2)).views()
