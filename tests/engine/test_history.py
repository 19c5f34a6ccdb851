"""What is kept equals what would be computed anew, whoever forks, resets, saves or changes the prompt."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import note_positions
from worldenv.bodies.camera import press
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.geometry.action import camera_to_c2w, keys_to_camera, keys_to_label
from worldenv.memory.config import MemoryConfig
from worldenv.memory.recent import RecentMemory
from worldenv.memory.worldscape import WorldScapeMemory
from worldenv.models.dit import WorldDiT
from worldenv.world.world import World

SMALL = MemoryConfig(policy="worldscape", temporal_latents=8, pool_entries=3, gain=0.3, num_points=512)
RECENT = MemoryConfig(policy="recent", kept=True, temporal_latents=4)
both = pytest.mark.parametrize("memory", [SMALL, RECENT], ids=["worldscape", "recent"])


def begun(world: World, seeds: list[int], *, memory: MemoryConfig = SMALL, **kwargs: Any) -> Engine:
    engine = Engine(world, len(seeds), memory=memory, **kwargs)
    engine.reset(seeds=seeds, starts=[0] * len(seeds))
    return engine


def walk(engine: Engine, num_chunks: int, *, seed: int = 0, same: bool = True) -> torch.Tensor:
    """Step random keys, the same in every row; return the latents made, (B, F, C, h, w)."""
    made, chunk = [torch.zeros(engine.num_envs, 0, *engine.world.latent_shape)], engine.spec.chunk_latents
    for i in range(num_chunks):
        rng = np.random.default_rng([seed, i])
        keys = torch.from_numpy(rng.integers(0, 5, (1 if same else engine.num_envs, chunk, 2))).expand(
            engine.num_envs, chunk, 2
        )
        made.append(engine.generate(press(keys, engine.c2w, engine.spec.steps)))
    return torch.cat(made, 1)


def pages(engine: Engine, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    store = engine.history.store
    assert store is not None
    assert store.pool is not None
    return store.pool.gather(store.pages[row][store.pages[row] >= 0][None])


def assert_same_pages(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


@both
@pytest.mark.parametrize("seed", range(2))
def test_kept_keys_and_values_equal_those_recomputed_from_the_whole_episode(
    tiny_world: World, seed: int, memory: MemoryConfig
) -> None:
    engine = begun(tiny_world, [1, 2], memory=memory, decode=False)
    walk(engine, 9, seed=seed, same=False)
    bank, again = engine.history.bank, begun(tiny_world, [1, 2], memory=memory, decode=False)
    length = int(bank.length[0])
    again.history.begin(torch.arange(2), bank.latents[:, :length], bank.track.part(slice(length)), K=again.K)
    assert engine.history.store is not None
    assert again.history.store is not None
    assert torch.equal(engine.history.store.entry, again.history.store.entry)
    if isinstance(engine.history.store, WorldScapeMemory):
        assert int(engine.history.store.pool_size.min()) >= 2, "something is in the pool"
    else:
        assert engine.history.store.entry[0].tolist() == [8, 9, -1], "two chunks; the older ones they were made against"
    for row in (0, 1):
        assert_same_pages(pages(engine, row), pages(again, row))


@both
def test_pages_anywhere_in_the_pool_are_attended_to_as_one_dense_context(
    tiny_world: World, memory: MemoryConfig
) -> None:
    """Block-table attention equals dense attention on the gathered pages, whatever pages the rows got."""
    dense, scattered = begun(tiny_world, [1, 2], memory=memory), Engine(tiny_world, 2, memory=memory)
    store = scattered.history.store
    assert store is not None
    assert store.pool is not None
    blank = torch.zeros_like(store.pool.keys[:, :7])
    held = store.pool.store(blank, blank)  # in the way
    scattered.reset(seeds=[1, 2], starts=[0, 0])
    for i in range(6):
        if i == 3:
            store.pool.release(held)
        assert torch.equal(walk(dense, 1, seed=i), walk(scattered, 1, seed=i))
    assert dense.history.store is not None
    assert not torch.equal(dense.history.store.pages, store.pages)


@pytest.mark.parametrize("memory", [SMALL, RECENT, replace(SMALL, policy="worldplay")], ids=lambda m: m.policy)
@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_fork_repeats_its_trunk_unless_reseeded(tiny_world: World, memory: MemoryConfig, at: int) -> None:
    engine = begun(tiny_world, [1, 2, 3], memory=memory)
    walk(engine, at)
    engine.fork([0], [2])
    if memory.keeps:
        store = engine.history.store
        assert store is not None
        assert store.pool is not None
        assert (store.pool.references[store.pages[0][store.pages[0] >= 0].long()] == 2).all(), "pages are shared"
    made = walk(engine, 4, seed=7)
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[1])
    engine.fork([0], [2], reseed=[99])
    made = walk(engine, 1, seed=8)
    assert not torch.equal(made[0], made[2])
    with pytest.raises(ValueError, match="cannot fork"):
        engine.fork([0, 1], [1, 2])


def test_a_fork_changes_nothing_for_the_others(tiny_world: World) -> None:
    forked, plain = begun(tiny_world, [1, 2, 3]), begun(tiny_world, [1, 2, 3])
    for engine in (forked, plain):
        walk(engine, 5)
    forked.fork([0], [1])
    assert torch.equal(walk(forked, 3, seed=4)[[0, 2]], walk(plain, 3, seed=4)[[0, 2]])


@both
def test_a_clone_continues_in_another_engine(tiny_world: World, memory: MemoryConfig) -> None:
    one = begun(tiny_world, [1, 2], memory=memory)
    walk(one, 7)
    saved = one.clone_state([0, 1])
    other = begun(tiny_world, [5, 6], memory=memory)
    walk(other, 2)
    other.restore_state(saved, [0, 1])
    assert torch.equal(walk(one, 4, seed=3), walk(other, 4, seed=3))
    plain = begun(tiny_world, [1, 2], memory=replace(SMALL, policy="worldplay"))
    with pytest.raises(ValueError, match="another memory policy"):
        plain.restore_state(saved, [0, 1])


def test_single_latents_are_kept_as_chunks_are(tiny_world: World) -> None:
    one, other, again = (begun(tiny_world, [1, 2, 3], memory=RECENT, chunk_latents=1, decode=False) for _ in range(3))
    walk(one, 9, same=False)
    one.fork([0], [1])
    other.restore_state(one.clone_state([0, 1, 2]), [0, 1, 2])
    for engine in (one, other):
        engine.reset(seeds=[7] * 3, starts=[1] * 3, mask=torch.tensor([False, False, True]))
    made = walk(one, 4, seed=3)
    assert torch.equal(made, walk(other, 4, seed=3))
    assert torch.equal(made[0], made[1])
    bank = one.history.bank
    for row, length in enumerate(bank.length.tolist()):
        where = torch.tensor([row])
        again.history.begin(where, bank.latents[where, :length], bank.track.at((where, slice(length))), K=again.K)
        assert_same_pages(pages(one, row), pages(again, row))


def test_a_state_of_a_longer_window_goes_on_in_a_shorter_one(tiny_world: World) -> None:
    short, long = (begun(tiny_world, [1], memory=replace(RECENT, retrieved_chunks=k), decode=False) for k in (0, 2))
    walk(long, 4)
    short.restore_state(long.clone_state([0]), [0])
    store = short.history.store
    assert isinstance(store, RecentMemory)
    assert store.read(torch.zeros(1).long(), Track()).index.tolist() == [[13, 14, 15, 16]]
    walk(short, 1)
    assert store.entry[0, : int(store.count[0])].tolist() == [5]


def test_states_hold_for_settings_that_came_later_as_they_usually_are(tiny_world: World) -> None:
    """A setting of memory that this does not know has to be among ``LATER``, or files of states are lost."""
    first = """bank_bytes combine direction_weight distance_weight floor fov_deg gain num_points policy pool_bytes
        pool_entries radius reframe rendering retrieved_chunks scale scale_deg seed suppress temporal_latents
        walls"""
    usual, changed = (Engine(tiny_world, 1, memory=memory).identity()["memory"] for memory in (SMALL, RECENT))
    assert isinstance(usual, dict)
    assert isinstance(changed, dict)
    assert set(usual) == set(first.split())
    assert set(changed) - set(usual) == {"kept"}


@both
def test_resets_of_other_rows_change_nothing_and_free_exactly_their_pages(
    tiny_world: World, memory: MemoryConfig
) -> None:
    one, two = (begun(tiny_world, [1, 2], memory=memory) for _ in range(2))
    for engine in (one, two):
        walk(engine, 6)
    store = two.history.store
    assert store is not None
    assert store.pool is not None
    others = int((store.pages[0] >= 0).sum())
    two.reset(seeds=[1, 9], starts=[0, 3], mask=torch.tensor([False, True]))
    assert store.pool.num_used == others + 1, "the reset row holds its start view alone"
    assert torch.equal(walk(one, 3, seed=5)[0], walk(two, 3, seed=5)[0])


def test_budgets_bound_what_is_kept_and_attended_to(tiny_world: World) -> None:
    engine = begun(tiny_world, [1], decode=False)
    walk(engine, 25)
    store = engine.history.store
    assert store is not None
    assert store.pool is not None
    assert int(store.count) <= 1 + 3 + 2
    assert store.pool.num_used <= 1 + (3 + 2) * 4
    assert engine.history.selection is not None
    assert engine.history.selection.index.shape[1] == store.slots == 1 + 4 + 8


def test_while_everything_fits_nothing_kept_equals_everything_encoded_anew(tiny_world: World) -> None:
    """Both memories attend to all there is, so what was recorded must be what would be encoded."""
    kinds = (
        MemoryConfig(policy="worldplay"),
        MemoryConfig(policy="worldscape"),
        MemoryConfig(policy="recent", kept=True),
    )
    anew, *kept = (walk(begun(tiny_world, [1, 2], memory=kind, decode=False), 3, same=False) for kind in kinds)
    for made in kept:
        torch.testing.assert_close(made, anew, atol=1e-4, rtol=1e-4)


def test_pages_are_neither_lost_nor_kept_by_changes_of_prompt(told_world: World) -> None:
    engine = Engine(told_world, 1, memory=SMALL, decode=False)
    engine.set_prompt("a hall")
    engine.reset(seeds=[1], starts=[0])
    walk(engine, 12)
    store = engine.history.store
    assert store is not None
    assert store.pool is not None
    radius, made = store.radius.clone(), store.made.clone()
    assert float(radius) > 0, "the pool was full"
    for prompt in ("rain", "a cave", "snow on a hall"):
        engine.set_prompt(prompt)
        engine.history.recache(0, K=engine.K, text=engine._state.text_batch([0]))
        assert store.pool.num_used == int((store.pages >= 0).sum())
        assert torch.equal(store.radius, radius)
        assert torch.equal(store.made, made)


def test_a_prompt_said_but_not_yet_seen_is_part_of_the_state(told_world: World) -> None:
    engine = Engine(told_world, 2, memory=SMALL, decode=False)
    engine.set_prompt("a hall")
    engine.reset(seeds=[1, 2], starts=[0, 0])
    walk(engine, 4)
    engine.set_prompt("rain", [0])
    engine.restore_state(engine.clone_state([0]), [1])
    made = walk(engine, 2, seed=3)
    assert torch.equal(made[0], made[1])


def test_prompts_that_cannot_share_a_batch_are_refused(told_world: World) -> None:
    engine = Engine(told_world, 2, decode=False)
    engine.set_prompt("a hall", [0])
    with pytest.raises(ValueError, match=r"rows \[1\] have no prompt"):
        engine.reset(seeds=[1, 2], starts=[0, 0])
    engine.set_prompt("rain", [1])
    engine.reset(seeds=[1, 2], starts=[0, 0])
    engine.set_prompt(torch.zeros(1, 9, 6), [1])
    with pytest.raises(ValueError, match=r"\[5, 9\] tokens"):
        walk(engine, 1)


def test_a_clip_is_remembered_and_continued(tiny_world: World) -> None:
    """Resuming from a clip equals having lived through its latents, under either policy."""
    for policy in ("worldscape", "worldplay"):
        memory = replace(SMALL, policy=policy)
        engine = Engine(tiny_world, 2, memory=memory)
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (2, 33, 48, 64, 3), dtype=torch.uint8, generator=generator)
        keys = torch.ones(2, 8, 2, dtype=torch.long)
        start = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
        path = torch.cat([start[:, None], camera_to_c2w(keys_to_camera(keys), start, engine.spec.steps)], 1)
        chunk = engine.resume(frames, {"c2w": path}, seeds=[0, 1])
        assert torch.equal(chunk.frames[:, 0], frames[:, -1])
        torch.testing.assert_close(engine.c2w, path[:, -1])
        assert engine.history.bank.length.tolist() == [9, 9]
        assert keys_to_label(engine.history.bank.track["keys"][0, :9]).tolist() == [0] + [10] * 8
        assert engine.step(_ahead(engine)).frames.shape == (2, 16, 48, 64, 3)
        with pytest.raises(ValueError, match=r"1 \+ 16 N frames"):
            engine.resume(frames[:, :29], {"c2w": path[:, :8]}, seeds=[0, 1])


def _ahead(engine: Engine) -> Track:
    keys = torch.ones(engine.num_envs, 4, 2, dtype=torch.long)
    return press(keys, engine.c2w, engine.spec.steps)


@pytest.fixture
def told_world(tiny_world: World) -> World:
    """A tiny world with text: a prompt's embedding is random numbers that follow from its length."""
    torch.manual_seed(1)
    config = replace(tiny_world.config.dit, text_dim=6)
    dit = WorldDiT(config)
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.1)
    world = World(
        replace(tiny_world.config, dit=config),
        vae=tiny_world.vae,
        dit=dit.eval().requires_grad_(False),
        starts=tiny_world.starts,
    )
    world.prompts = lambda text: torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(len(text)))
    return world


def test_a_new_prompt_makes_keys_and_values_anew_and_keeps_the_place(told_world: World) -> None:
    def lived(prompt: str) -> Engine:
        engine = Engine(told_world, 2, memory=SMALL, decode=False)
        engine.set_prompt(prompt)
        engine.reset(seeds=[1, 2], starts=[0, 0])
        walk(engine, 8)
        return engine

    engine, plain = lived("a hall"), lived("a hall")
    before, kept = pages(engine, 0), pages(engine, 1)
    store = engine.history.store
    assert store is not None
    entries, length = store.entry.clone(), engine.history.bank.length.clone()
    engine.set_prompt("a hall in snow", [0])
    made, others = walk(engine, 1, seed=5), walk(plain, 1, seed=5)
    assert torch.equal(made[1], others[1]), "the other row has its prompt and its past"
    assert not torch.equal(made[0], others[0])
    assert torch.equal(engine.history.bank.length, length + 4), "pictures and poses stay"
    assert store.pool is not None
    after = store.pool.gather(store.pages[0, :1, 3:])
    assert not torch.allclose(after[0][1:], before[0][1:, :, :1]), "the sink was made anew from the second layer on"
    torch.testing.assert_close(after[0][:1], before[0][:1, :, :1], msg="the first layer's keys see no prompt")
    kept_entries = [e for e in entries[0].tolist() if e >= 0]
    assert len(set(kept_entries) & set(store.entry[0].tolist())) >= len(kept_entries) - 1, "and what the pool holds"
    assert_same_pages((kept[0][:, :, :1], kept[1][:, :, :1]), store.pool.gather(store.pages[1, :1, 3:]))


def test_a_clone_and_a_fork_take_their_prompt_along(told_world: World) -> None:
    engine = Engine(told_world, 2, memory=SMALL, decode=False)
    engine.set_prompt("a hall", [0])
    engine.set_prompt("a cave in the rain", [1])
    engine.reset(seeds=[1, 2], starts=[0, 0])
    walk(engine, 3)
    other = Engine(told_world, 2, memory=SMALL, decode=False)
    other.set_prompt("nothing")
    other.reset(seeds=[7, 8], starts=[0, 0])
    other.restore_state(engine.clone_state([0, 1]), [0, 1])
    assert torch.equal(walk(engine, 3, seed=3), walk(other, 3, seed=3))
    other.fork([0], [1])
    made = walk(other, 2, seed=4)
    assert torch.equal(made[0], made[1])


def test_a_prompt_that_comes_back_brings_its_keys_back(told_world: World) -> None:
    """Making everything anew twice, for another prompt and for the old one, ends where once would have ended."""
    engine = Engine(told_world, 1, memory=replace(SMALL, gain=-1.0, pool_entries=0), decode=False)
    engine.set_prompt("a hall")
    engine.reset(seeds=[1], starts=[0])
    walk(engine, 6)
    text = engine._state.text_batch([0])
    engine.history.recache(0, K=engine.K, text=text)
    once = pages(engine, 0)
    engine.history.recache(0, K=engine.K, text=told_world.dit.encode_text(told_world.prompts("rain")))  # type: ignore[misc]
    engine.history.recache(0, K=engine.K, text=text)
    assert_same_pages(once, pages(engine, 0))


def test_the_engine_keeps_positions_absolute_without_reframing(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start view and five chunks the next is latents 21 to 24; what is recent lies right before it."""
    memory = MemoryConfig(temporal_latents=8, retrieved_chunks=1, num_points=512, reframe=False)
    engine = begun(tiny_world, [1, 2], memory=memory, decode=False)
    walk(engine, 5)
    seen = note_positions(monkeypatch)
    walk(engine, 1, seed=1)
    context, *chunks = seen
    assert engine.history.selection is not None
    retrieved = engine.history.layout.members(engine.history.selection.retrieved[:, 0])
    assert context[:, :4].tolist() == retrieved.clamp(min=0).tolist()
    assert context[:, 4:].tolist() == [list(range(13, 21))] * 2
    assert all(chunk.tolist() == [[21, 22, 23, 24]] * 2 for chunk in chunks)
