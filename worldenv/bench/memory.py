"""Is the thousandth chunk as fast as the tenth? Engines of different age, stepped in turn, and retrieval alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.log import console, track
from ..dynamics.signals import Track
from ..engine.engine import Engine
from ..geometry.action import camera_to_c2w, keys_to_camera
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig, with_policy
from ..memory.retrieval import view_points
from ..memory.search import Views, all_overlaps
from ..memory.select import Query, select
from ..models.heads import DepthConfig, HeadConfigs
from ..models.presets import PRESETS
from ..world.config import WorldConfig
from ..world.starts import Starts
from ..world.world import World, shared_world
from .engine import command, write_bench

RENDERED = "_rendered"
POLICIES = ("worldplay", "worldscape", f"worldplay{RENDERED}")
"""Policies that are aged, one with memory rendered into the coming view."""
YOUNG = 200
"""Chunks of the young engine."""
BASIC = torch.tensor([[1, 0], [1, 0], [1, 0], [2, 0], [0, 1], [0, 2]])
"""Keys of a random walk: ahead half of the time, else back or a turn."""


def tiny_world() -> World:
    """Make the tiny preset: the packaged world's shape on a few thousand random weights."""
    torch.manual_seed(0)
    head = DepthConfig(widths=(8, 8, 8), num_blocks=1)
    config = WorldConfig(name="tiny", vae=PRESETS["tiny"].vae, dit=PRESETS["tiny"].dit, heads=HeadConfigs(depth=head))
    frames, eye = torch.zeros(1, 48, 64, 3, dtype=torch.uint8), torch.eye(4, dtype=torch.float64)[None]
    world = World(config, starts=Starts(frames, eye, eye, torch.zeros(1, dtype=torch.long)))
    for module in (world.dit, world.vae):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
    for part in world.parts().values():
        part.eval().requires_grad_(False)
    return world


@torch.no_grad()
def bench_memory(out: Path, *, name: str, num_chunks: int, num_steps: int) -> None:
    """Time both policies on engines ``num_chunks`` and 200 chunks old, and retrieval among 2,500; write JSON."""
    if num_chunks <= YOUNG:
        raise ValueError(f"chunks={num_chunks} must be more than the {YOUNG} of the young engine")
    world = tiny_world() if name == "tiny" else shared_world(name, device=torch.device("cpu"), dtype=torch.float32)
    policies = {policy: _age(world, policy, num_chunks, num_steps) for policy in POLICIES}
    retrieval = [_retrieval(num_envs, 2500, num_steps) for num_envs in (1, 64)]
    for policy, row in policies.items():
        console.print(
            f"{policy:>18}: chunk {num_chunks} takes {row['chunk_time_ratio']:.3f} of chunk {YOUNG} "
            f"({row['chunk_ms']:.1f} ms), {row['tokens_attended']} tokens attended, memory grows by "
            f"{row['rss_mb_per_1000_chunks']:.2f} MB per 1,000 chunks beyond the latents"
        )
    for row in retrieval:
        console.print(
            f"retrieval: {row['envs']} envs x {row['chunks']} chunks in {row['median']:.1f} ms; counting every point "
            f"{row['brute_force']:.0f} ms, same choice"
        )
    write_bench(
        out,
        world=world.config.name,
        chunks=num_chunks,
        young_chunks=YOUNG,
        steps=num_steps,
        policies=policies,
        retrieval_ms=retrieval[1],
        retrieval_ms_one_env=retrieval[0],
    )


def _age(world: World, policy: str, num_chunks: int, num_steps: int) -> dict[str, Any]:
    """Walk an engine to its age, then step it and a young one in turn."""
    memory = replace(with_policy(world.config.memory, policy.removesuffix(RENDERED)), render=policy.endswith(RENDERED))
    young, old = (Engine(world, 1, memory=memory, decode=False) for _ in range(2))
    for engine in (young, old):
        engine.reset(seeds=[0], starts=[0])
    rng = np.random.default_rng(0)
    for _ in range(YOUNG):
        _step(young, rng)
    half, before = num_chunks // 2, 0.0
    for i in track(range(num_chunks), f"{policy}: {num_chunks} chunks", total=num_chunks):
        if i == half:
            before = _resident() - _stored(old)
        _step(old, rng)
    grown = _resident() - _stored(old) - before
    seconds: dict[str, list[float]] = {"young": [], "old": []}
    for _ in range(num_steps):
        seconds["young"].append(_step(young, rng))
        seconds["old"].append(_step(old, rng))
    medians = {age: float(np.median(values)) for age, values in seconds.items()}
    return {
        "chunk_time_ratio": round(medians["old"] / medians["young"], 4),
        "chunk_ms": round(1000 * medians["old"], 3),
        "rss_mb_per_1000_chunks": round(grown / 1e6 / (num_chunks - half) * 1000, 3),
        "tokens_attended": _attended(old),
        "tokens_attended_young": _attended(young),
        "entries_kept": int(old.memory_chunks[0]),
    }


def _step(engine: Engine, rng: np.random.Generator) -> float:
    """Take one random step; return its seconds."""
    actions = command(engine, BASIC[rng.integers(len(BASIC), size=engine.num_envs)])
    return _seconds(lambda: engine.generate(actions))


def _resident() -> float:
    """Return this process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _stored(engine: Engine) -> float:
    """Return the bytes of the latents, and of the frames and depth, that the bank holds."""
    bank, count = engine.history.bank, int(engine.history.bank.length.sum())
    views = sum(part[0, 0].numel() * part.element_size() for part in bank.views().values())
    return float(count * bank.latents[0, 0].numel() * bank.latents.element_size() + count // bank.every * views)


def _attended(engine: Engine) -> int:
    """Return the tokens that the newest chunk attended to, its own included."""
    assert engine.history.selection is not None
    filled = int((engine.history.selection.index[0] >= 0).sum())
    return (filled + engine.spec.chunk_latents) * engine.world.dit.tokens(torch.empty(0, 0, *engine.world.latent_shape))


def _retrieval(num_envs: int, num_chunks: int, num_steps: int) -> dict[str, Any]:
    """Time the choice among ``num_chunks`` candidates on random walks; counting every point must choose the same."""
    config, layout = MemoryConfig(num_points=50_000), Layout(4)
    bank, query = _walked_bank(num_envs, num_chunks + config.temporal_latents // layout.chunk_latents - 1)

    def search() -> Tensor:
        return select(bank, Query(Track(c2w=query)), config, layout).retrieved[:, 0]

    found, threads = search(), torch.get_num_threads()
    if num_envs == 1:
        torch.set_num_threads(1)  # so little work is not worth sharing
    seconds, used = [_seconds(search) for _ in range(num_steps)], torch.get_num_threads()
    torch.set_num_threads(threads)
    points = view_points(config.num_points, radius=config.radius, seed=config.seed, fov_deg=config.fov_deg)
    entries, brute = torch.arange(num_chunks), 0.0
    for row in range(num_envs):
        views = Views(bank.c2w[row : row + 1], layout.members(entries)[:, [0, 2]].clamp(min=0), entries)
        began = time.perf_counter()
        score = all_overlaps(query[row : row + 1], views, points, fov_deg=config.fov_deg, radius=config.radius)
        brute += time.perf_counter() - began
        assert int(score.argmax()) == int(found[row]), "the search chose another chunk than counting everything"
    return {
        "envs": num_envs,
        "chunks": num_chunks,
        "median": round(1000 * float(np.median(seconds)), 3),
        "brute_force": round(1000 * brute, 1),
        "points": config.num_points,
        "points_in_view": len(points),
        "threads": used,
    }


def _walked_bank(num_envs: int, num_chunks: int) -> tuple[MemoryBank, Tensor]:
    """Fill a bank with random walks after a start view; return it and the poses of the next chunk, (B, 4, 4, 4)."""
    rng, start = np.random.default_rng(1), torch.eye(4, dtype=torch.float64).expand(num_envs, 4, 4)
    keys = BASIC[rng.integers(len(BASIC), size=(num_envs, num_chunks + 1))].repeat_interleave(4, 1)
    path = torch.cat([start[:, None], camera_to_c2w(keys_to_camera(keys), start, World(WorldConfig()).spec.steps)], 1)
    past = path[:, :-4]
    bank = MemoryBank.empty((1, 1, 1), Track(c2w=start[:, None]))
    bank.append(torch.arange(num_envs), torch.zeros(*past.shape[:2], 1, 1, 1), Track(c2w=past))
    return bank, path[:, -4:]


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
