"""Attention over pages generates what dense attention over copies generates, and leaves what is kept alone.

On a CPU the kernels' definition runs; one case runs the kernel itself in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldenv.bodies.camera import press
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.engine.rollout import Prepared
from worldenv.memory.config import MemoryConfig
from worldenv.models.dit import WorldDiT
from worldenv.models.kv_cache import PagePool
from worldenv.models.paged_cache import PagedCache
from worldenv.models.types import DiTConfig, KeysValues
from worldenv.world.world import World

SMALL = MemoryConfig(temporal_latents=8, retrieved_chunks=1, pool_entries=3, gain=0.3, num_points=256)
POLICIES = ("worldscape", "worldplay")
Make = Callable[..., Engine]


def world_of(tiny_world: World, backend: str, changes: dict[str, Any], **sizes: Any) -> World:
    """Give the tiny world heads that kernels take."""
    torch.manual_seed(2)
    dit = WorldDiT(replace(DiTConfig(latent_channels=4, width=64, num_layers=2, num_heads=2, ffn_dim=32), **sizes))
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.1)
    config = replace(tiny_world.config, dit=dit.config, **changes)
    world = World(config, vae=tiny_world.vae, dit=dit.eval().requires_grad_(False), starts=tiny_world.starts)
    return world.compute_with(dtype=torch.float32, backend=backend)


@pytest.fixture
def begun(tiny_world: World, triton: None) -> Make:
    """Make an engine of two episodes; ``changes`` are of the world, the others of its transformer."""

    def make(backend: str, policy: str, *, changes: dict[str, Any] | None = None, **sizes: Any) -> Engine:
        world = world_of(tiny_world, backend, changes or {}, **sizes)
        engine = Engine(world, 2, memory=replace(SMALL, policy=policy), decode=False)
        if world.dit.config.text_dim:
            engine.set_prompt(torch.ones(1, 5, 6))
        engine.reset(seeds=[0, 1], starts=[0, 1])
        return engine

    return make


def walk(engine: Engine, num_chunks: int, *, seed: int = 0) -> Tensor:
    """Step random keys, others in every row; return the latents made, (B, F, C, h, w)."""
    made = []
    for i in range(num_chunks):
        rng = np.random.default_rng([seed, i])
        keys = torch.from_numpy(rng.integers(0, 5, (engine.num_envs, 4, 2)))
        made.append(engine.generate(press(keys, engine.c2w, engine.spec.steps)))
    return torch.cat(made, 1)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).norm() / expected.norm()) < 1e-4


def cache_of(engine: Engine) -> PagedCache:
    cache = engine.history._cache
    assert isinstance(cache, PagedCache)
    return cache


@pytest.mark.parametrize("policy", [*POLICIES, "recent", "random", "none"])
def test_an_episode_equals_the_dense_one(begun: Make, policy: str) -> None:
    """Through empty slots, retrieval, a pool that overflows, and a row that begins anew beside one that goes on."""
    dense, paged = (begun(backend, policy) for backend in ("torch", "triton"))
    for part, num_chunks in enumerate((1, 5, 2)):
        assert_close(walk(paged, num_chunks, seed=part), walk(dense, num_chunks, seed=part))
        if part == 1:
            for engine in (dense, paged):
                engine.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
    assert (cache_of(paged).seen < 0).any(), "the row that began anew has empty slots"
    assert not isinstance(dense.history._cache, PagedCache)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sizes", [{"camera_branch": False}, {"causal_context": False}, {"text_dim": 6}])
def test_other_transformers(begun: Make, policy: str, sizes: dict[str, Any]) -> None:
    dense, paged = (walk(begun(backend, policy, **sizes), 3) for backend in ("torch", "triton"))
    assert_close(paged, dense)


def test_a_start_view_inside_the_first_chunk(begun: Make) -> None:
    """The first chunk has no context at all, and a latent that is given."""
    options = {"spec": WorldSpec(start_in_chunk=True)}
    dense, paged = (walk(begun(backend, "worldplay", changes=options), 2) for backend in ("torch", "triton"))
    assert_close(paged, dense)


def prepare(engine: Engine) -> Prepared:
    rows, keys = torch.arange(engine.num_envs), torch.zeros(engine.num_envs, 4, 2, dtype=torch.long)
    still = Track(keys=keys, c2w=engine.c2w[:, None].expand(-1, 4, -1, -1))
    return engine.history.encode(engine.history.stage(rows, still, K=engine.K, seeds=[0, 1]))


@pytest.mark.parametrize(
    ("policy", "kernel"), [("worldscape", "triton"), ("worldscape", "auto"), ("worldplay", "auto")]
)
def test_the_velocity_equals_the_dense_one(
    begun: Make, monkeypatch: pytest.MonkeyPatch, policy: str, kernel: str
) -> None:
    """Of the whole chunk and of its first latents, in rows of different lengths, with the kernel and its definition."""
    velocities = []
    for backend in ("torch", "triton"):
        monkeypatch.setattr(PagedCache, "kernel", "auto")
        engine = begun(backend, policy, num_layers=1 if kernel == "triton" else 2)
        walk(engine, 2)
        engine.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
        monkeypatch.setattr(PagedCache, "kernel", kernel)
        prepared = prepare(engine)
        x = torch.randn(2, 4, *engine.world.latent_shape, generator=torch.Generator().manual_seed(0))
        parts = [x] if kernel == "triton" else [x, x[:, :1], x[:, :3]]
        velocities.append([prepared.velocity(part, torch.full(part.shape[:2], 700.0)) for part in parts])
    for dense, paged in zip(*velocities, strict=True):
        assert_close(paged, dense)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_rolling_window_attends_over_pages(begun: Make, policy: str) -> None:
    rolling = SamplerConfig(rolling=True, stochastic=True)
    dense, paged = (walk(begun(backend, policy, changes={"sampler": rolling}), 3) for backend in ("torch", "triton"))
    assert_close(paged, dense)


@pytest.mark.parametrize("policy", POLICIES)
def test_bfloat16_rounds_no_worse_than_in_the_dense_way(begun: Make, policy: str) -> None:
    whole = begun("torch", policy)
    walk(whole, 3)
    x = torch.randn(2, 4, *whole.world.latent_shape, generator=torch.Generator().manual_seed(0))
    exact, errors = prepare(whole).velocity(x, torch.full((2, 4), 700.0)), []
    for backend in ("torch", "triton"):
        engine = begun(backend, policy)
        engine.world.compute_with(dtype=torch.bfloat16, backend=backend)
        engine = Engine(engine.world, 2, memory=replace(SMALL, policy=policy), decode=False)
        engine.reset(seeds=[0, 1], starts=[0, 1])
        engine.restore_state(whole.clone_state([0, 1]), [0, 1])
        errors.append(float((prepare(engine).velocity(x, torch.full((2, 4), 700.0)) - exact).norm() / exact.norm()))
    assert 0 < errors[1] < 1.2 * errors[0] < 0.1


def test_recorded_memory_is_copied_in_the_dense_way_only(begun: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[torch.Tensor] = []
    gather = PagePool.gather

    def noting(pool: PagePool, table: torch.Tensor) -> KeysValues:
        copied.append(table)
        return gather(pool, table)

    engines = {backend: begun(backend, "worldscape") for backend in ("torch", "triton")}
    monkeypatch.setattr(PagePool, "gather", noting)
    for backend, engine in engines.items():
        copied.clear()
        walk(engine, 2)
        assert len(copied) == (2 if backend == "torch" else 0), backend


def test_denoising_leaves_what_is_kept_alone(begun: Make) -> None:
    engine = begun("triton", "worldscape")
    walk(engine, 3)
    store, cache = engine.history.store, cache_of(engine)
    assert store is not None
    assert store.pool is cache.pool
    kept = store.pages[store.pages >= 0]
    assert not set(kept.tolist()) & set(cache.chunk.flatten().tolist())
    assert store.pool.num_used == len(kept) + cache.chunk.numel()
    before = [t.clone() for t in store.pool.gather(kept[None])]
    prepared = prepare(engine)
    prepared.velocity(torch.randn(2, 4, *engine.world.latent_shape), torch.full((2, 4), 700.0))
    for now, then in zip(store.pool.gather(kept[None]), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("policy", POLICIES)
def test_clones_and_forks_continue_bit_by_bit(begun: Make, policy: str) -> None:
    one, other = begun("triton", policy), begun("triton", policy)
    walk(one, 4)
    walk(other, 1, seed=9)
    other.restore_state(one.clone_state([0, 1]), [0, 1])
    assert torch.equal(walk(one, 2, seed=3), walk(other, 2, seed=3))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_does_not_notice_that_its_neighbour_begins_anew(begun: Make, policy: str) -> None:
    one, other = begun("triton", policy), begun("triton", policy)
    for engine in (one, other):
        walk(engine, 3)
    other.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
    made, again = walk(one, 2, seed=3), walk(other, 2, seed=3)
    assert torch.equal(made[0], again[0])
    assert not torch.equal(made[1], again[1])


def test_what_kernels_do_not_take_is_refused_or_goes_the_dense_way(tiny_world: World, triton: None) -> None:
    with pytest.raises(ValueError, match=r"heads have 24 channels, kernels take 32, 64, 128; pass backend='auto' or"):
        tiny_world.compute_with(dtype=torch.float32, backend="triton")
    with pytest.raises(ValueError, match="unknown backend 'cuda'; choose auto, torch, onednn, triton"):
        tiny_world.compute_with(dtype=torch.float32, backend="cuda")
    assert world_of(tiny_world, "triton", {}).dit.reads_pages
    assert not world_of(tiny_world, "auto", {}).dit.reads_pages
    assert not world_of(tiny_world, "triton", {}, numerics="reference").dit.reads_pages
