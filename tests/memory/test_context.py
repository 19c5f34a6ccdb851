import math
from typing import Any

import pytest
import torch

from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.action import keys_to_label, label_to_keys
from worldenv.geometry.camera import intrinsics, normalise_intrinsics
from worldenv.geometry.pose import look
from worldenv.memory.bank import MemoryBank
from worldenv.memory.config import Layout, MemoryConfig, num_slots, with_policy
from worldenv.memory.context import Context, chunk_mask, condition, context_mask, gather
from worldenv.memory.select import Query, select

CHUNK = 4
CONFIG = MemoryConfig(num_points=512)
SLOTS = num_slots(CONFIG, CHUNK)
SHAPE = (1, 1, 1)
LAYOUT = Layout(CHUNK)


def heading(yaw_deg: float) -> torch.Tensor:
    return look(torch.zeros(3, dtype=torch.float64), torch.tensor(math.radians(yaw_deg), dtype=torch.float64))


def make_bank(yaws: list[list[float]]) -> MemoryBank:
    """A bank of cameras at the origin that look along these yaws, one list of latents per env."""
    bank = MemoryBank.empty(SHAPE, WorldSpec().still(len(yaws)))
    for row, row_yaws in enumerate(yaws):
        count = len(row_yaws)
        latents = torch.arange(count, dtype=torch.float32).view(1, count, 1, 1, 1)
        c2w = torch.stack([heading(y) for y in row_yaws])[None]
        bank.append(torch.tensor([row]), latents, Track(keys=label_to_keys(torch.arange(count))[None], c2w=c2w))
    return bank


def query(*yaws: float) -> torch.Tensor:
    return torch.stack([heading(y) for y in yaws])[:, None].expand(-1, CHUNK, 4, 4)


def track_of(c2w: torch.Tensor, label: int = 0) -> Track:
    """Latents with these poses (B, F, 4, 4), all under one label."""
    return Track(keys=label_to_keys(torch.full(c2w.shape[:2], label)), c2w=c2w)


def pick(bank: MemoryBank, q: torch.Tensor, policy: str = "worldplay", seeds: tuple[int, ...] = ()) -> torch.Tensor:
    return select(bank, Query(Track(c2w=q), seeds), with_policy(CONFIG, policy), LAYOUT).index


def members(row: torch.Tensor) -> list[int]:
    return [int(i) for i in row if i >= 0]


def sweep(num_chunks: int, *, special: int | None = None) -> list[float]:
    """Yaws of latent 0 and ``num_chunks`` chunks: all look back (180), chunk ``special`` looks ahead (0)."""
    return [180.0] + [0.0 if c == special else 180.0 for c in range(1, num_chunks + 1) for _ in range(CHUNK)]


def test_entries_are_latent_zero_and_then_chunks() -> None:
    assert Layout(CHUNK).entry_of(torch.tensor([-1, 0, 1, 4, 5, 8, 9])).tolist() == [-1, 0, 1, 1, 2, 2, 3]
    assert SLOTS == 16


@pytest.mark.parametrize("policy", ["worldplay", "recent", "random"])
@pytest.mark.parametrize("num_chunks", [0, 1, 3])
def test_everything_is_in_context_while_it_fits(policy: str, num_chunks: int) -> None:
    bank = make_bank([sweep(num_chunks)])
    length = 1 + CHUNK * num_chunks
    assert length <= SLOTS
    row = pick(bank, query(0), policy)[0]
    assert members(row) == list(range(length))
    assert row.tolist() == [-1] * (SLOTS - length) + list(range(length)), "filled from the right"


@pytest.mark.parametrize("special", [1, 2, 3, 5])
def test_a_revisited_view_is_retrieved(special: int) -> None:
    bank = make_bank([sweep(9, special=special)])
    length = 1 + 9 * CHUNK
    found = select(bank, Query(Track(c2w=query(0))), CONFIG, LAYOUT)
    chunk = list(range(CHUNK * special - 3, CHUNK * special + 1))
    assert members(found.index[0]) == chunk + list(range(length - 12, length))
    assert found.retrieved.tolist() == [[special]]
    assert float(found.score) == pytest.approx(1.0)


def test_entry_zero_can_be_retrieved_and_takes_one_slot() -> None:
    yaws = sweep(6)
    yaws[0] = 0.0
    row = pick(make_bank([yaws]), query(0))[0]
    assert members(row) == [0, *range(13, 25)]
    assert row.tolist()[:3] == [-1, -1, -1]


def test_equal_scores_take_the_earliest_entry() -> None:
    found = select(make_bank([sweep(8)]), Query(Track(c2w=query(180))), CONFIG, LAYOUT)
    assert found.retrieved.tolist() == [[0]]


def test_what_is_in_the_window_is_not_retrieved_again() -> None:
    """The last three chunks look ahead; only older ones are candidates, and no latent comes twice."""
    yaws = [180.0] + [180.0] * 16 + [0.0] * 12
    row = members(pick(make_bank([yaws]), query(0))[0])
    assert len(row) == len(set(row))
    assert row[-12:] == list(range(17, 29))
    assert all(i < 17 for i in row[:-12])


def test_none_is_the_previous_chunk_and_recent_the_whole_budget() -> None:
    bank = make_bank([sweep(9, special=1)])
    assert members(pick(bank, query(0), "none")[0]) == [33, 34, 35, 36]
    assert members(pick(bank, query(0), "recent")[0]) == list(range(21, 37))
    assert pick(bank, query(0), "none").shape == pick(bank, query(0), "recent").shape == (1, SLOTS)
    assert members(pick(make_bank([sweep(0)]), query(0), "none")[0]) == [0]


def test_random_is_determined_by_its_seed() -> None:
    bank = make_bank([sweep(12)] * 2)
    first = pick(bank, query(0, 0), "random", (1, 2))
    assert torch.equal(first, pick(bank, query(0, 0), "random", (1, 2)))
    swapped = pick(bank, query(0, 0), "random", (2, 1))
    assert torch.equal(first.flip(0), swapped)
    chosen = {tuple(members(pick(make_bank([sweep(12)]), query(0), "random", (s,))[0])[:-12]) for s in range(60)}
    assert len(chosen) == 10, "every candidate entry (0 to 9) comes up"
    assert all(len(members(row)) in (13, 16) for row in first)


def test_rows_of_different_lengths_choose_as_if_alone() -> None:
    yaws = [sweep(9, special=2), sweep(2), sweep(5, special=1), sweep(0), sweep(4, special=1)]
    bank = make_bank(yaws)
    for policy in ("worldplay", "recent", "random", "none"):
        together = pick(bank, query(0, 0, 0, 0, 0), policy, (0, 1, 2, 3, 4))
        for row, own in enumerate(yaws):
            alone = pick(make_bank([own]), query(0), policy, (row,))
            assert torch.equal(together[row], alone[0]), (policy, row)


def test_no_entry_is_chosen_when_the_history_barely_outgrows_the_slots() -> None:
    """17 latents: the window holds the last 12, entries 0 and 1 are candidates, and nothing overlaps twice."""
    row = members(pick(make_bank([sweep(4, special=1)]), query(0))[0])
    assert row == [1, 2, 3, 4, *range(5, 17)]


def test_several_chunks_can_be_retrieved() -> None:
    config = MemoryConfig(num_points=512, temporal_latents=8, retrieved_chunks=2)
    yaws = sweep(9)
    for chunk in (2, 5):
        yaws[CHUNK * chunk - 3 : CHUNK * chunk + 1] = [0.0] * CHUNK
    index = select(make_bank([yaws]), Query(Track(c2w=query(0))), config, LAYOUT).index
    assert members(index[0]) == [5, 6, 7, 8, 17, 18, 19, 20, *range(29, 37)]


def test_chunks_of_one_latent_work() -> None:
    config = MemoryConfig(num_points=512, temporal_latents=3, retrieved_chunks=2)
    yaws = [180.0, 180.0, 0.0, 180.0, 0.0, 180.0, 180.0, 180.0, 180.0]
    index = select(make_bank([yaws]), Query(Track(c2w=query(0)[:, :1])), config, Layout(1)).index
    assert members(index[0]) == [2, 4, 6, 7, 8]


def test_unknown_policies_are_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"worldplay, worldscape, recent, random, none"):
        MemoryConfig(policy="elephant")


@pytest.mark.parametrize(
    "changes",
    [
        {"radius": 0.0},
        {"num_points": 0},
        {"temporal_latents": 0},
        {"retrieved_chunks": -1},
        {"fov_deg": (180.0, 35.0)},
        {"combine": "x"},
        {"scale_deg": 0.0},
        {"pool_entries": -1},
        {"radius": math.nan},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        MemoryConfig(**changes)


def test_the_scale_follows_from_the_world_s_step() -> None:
    assert MemoryConfig().for_world(WorldSpec()).scale == 2.0
    assert MemoryConfig(scale=1.5).for_world(WorldSpec()).scale == 1.5


@pytest.mark.parametrize(("alone", "slices"), [(True, [(0, 1), (1, 5), (5, 9)]), (False, [(0, 4), (4, 8)])])
def test_clips_are_cut_into_the_entries_of_their_latents(alone: bool, slices: list[tuple[int, int]]) -> None:
    layout = Layout(4, start_alone=alone)
    parts = list(layout.parts(11))
    assert [(part.start, part.stop) for part in parts] == slices
    for entry, part in enumerate(parts):
        assert set(layout.entry_of(torch.arange(part.start, part.stop)).tolist()) == {entry}


def test_gather_fetches_the_selected_latents() -> None:
    bank = make_bank([sweep(9, special=2), sweep(1)])
    index = pick(bank, query(0, 0))
    context = gather(bank, index, LAYOUT)
    assert torch.equal(context.valid, index >= 0)
    for row in range(2):
        keep = context.valid[row]
        assert context.latents[row, keep, 0, 0, 0].tolist() == index[row, keep].tolist()
        assert torch.equal(keys_to_label(context.track["keys"])[row, keep], index[row, keep])
        assert torch.equal(context.track["c2w"][row, keep], bank.c2w[row, index[row, keep]])
    assert context.entry[1].tolist() == [-1] * 11 + [0, 1, 1, 1, 1]


def test_context_mask_is_block_causal_and_hides_empty_slots() -> None:
    mask = context_mask(torch.tensor([[-1, 0, 2, 2, 3]]))[0]
    expected = [
        [1, 0, 0, 0, 0],  # an empty slot sees itself, so that its softmax is defined
        [0, 1, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 1],
    ]
    assert mask.int().tolist() == expected


def test_chunk_mask_sees_filled_slots_and_the_whole_chunk() -> None:
    mask = chunk_mask(torch.tensor([[False, True], [True, True]]), 3)
    assert mask.shape == (2, 3, 5)
    assert mask[0].int().tolist() == [[0, 1, 1, 1, 1]] * 3
    assert mask[1].all()


def test_conditioning_is_reframed() -> None:
    """Positions count from the first slot; poses are relative to the chunk's first camera, in the model's unit."""
    bank, unit = make_bank([sweep(9, special=2)]), 2.0
    bank.c2w[..., 0, 3] = torch.arange(bank.c2w.shape[1]).double()
    context = gather(bank, pick(bank, query(0)), LAYOUT)
    c2w = query(30).clone()
    c2w[..., 2, 3] = torch.arange(CHUNK).double()
    K = normalise_intrinsics(intrinsics(64, 48, fov_deg=90), width=64, height=48)
    cond = condition(context, track_of(c2w, 7), K=K, unit=unit)
    total = SLOTS + CHUNK
    assert cond.positions.tolist() == [list(range(total))]
    assert cond.labels is not None
    assert cond.projection is not None
    assert cond.unprojection is not None
    assert cond.labels[0, SLOTS:].tolist() == [7] * CHUNK
    assert cond.timesteps[0, :SLOTS].tolist() == [14.0] * SLOTS
    lift = torch.diag(torch.tensor([K[0, 0], K[1, 1], 1, 1]))
    torch.testing.assert_close(cond.projection[0, SLOTS], lift)
    inverse = (cond.projection @ cond.unprojection)[0]
    torch.testing.assert_close(inverse, torch.eye(4).expand(total, 4, 4), atol=1e-5, rtol=0)
    relative = torch.linalg.inv(c2w[0, 0]) @ c2w[0, 3]
    relative[:3, 3] /= unit
    torch.testing.assert_close(cond.projection[0, -1], lift @ torch.linalg.inv(relative).float(), atol=1e-5, rtol=0)


def test_without_reframing_positions_are_the_latents_own() -> None:
    """A place seen 33 latents ago stays 33 positions away, and an empty slot, which is masked, is anywhere."""
    bank = make_bank([sweep(9, special=2), sweep(1)])
    context = gather(bank, pick(bank, query(0, 0)), LAYOUT, first=bank.length)
    cond = condition(context, track_of(query(0, 0)), K=torch.eye(3), unit=1.0)
    assert cond.positions[0].tolist() == [*range(5, 9), *range(25, 37), *range(37, 41)]
    assert cond.positions[1, 11:].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(ValueError, match="choose another policy"):
        MemoryConfig(policy="worldscape", reframe=False)


def test_noised_context_keeps_its_own_timesteps() -> None:
    latents = torch.zeros(1, 2, *SHAPE)
    context = Context(latents, track_of(query(0)[:, :2]), torch.tensor([[0, 1]]), torch.tensor([[14.0, 250.0]]))
    cond = condition(context, track_of(query(0)), K=torch.eye(3), unit=1.0)
    assert cond.timesteps[0].tolist()[:2] == [14.0, 250.0]
