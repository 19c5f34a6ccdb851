"""A recorded chunk equals a computed one when retrieval, resets, actions and prompts have changed since.

What a CUDA graph does is done on a CPU: a tape of operations is run again on the same tensors, and the host may not
look at any of them while it is recorded. That everything is on the device by then is seen on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from worldenv.bodies.camera import press
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.signals import Track
from worldenv.engine.capture import Recorder, Run, leaves, map_tensors
from worldenv.engine.engine import Engine
from worldenv.engine.history import History
from worldenv.engine.rollout import Known
from worldenv.memory.config import MemoryConfig
from worldenv.models.kv_cache import KVCache
from worldenv.models.paged_cache import PagedCache
from worldenv.world.world import World
from worldenv_kernels.backend import interpreting

from .test_paged import SMALL, world_of

HOST_READS = ("_local_scalar_dense", "nonzero", "equal", "unique", "masked_select")


class Tape(TorchDispatchMode):
    """Remembers operations and the tensors they were called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in HOST_READS, f"{name}: the host waits for the device"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(leaves(out), leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record_tape(run: Run) -> Run:
    """Stand in for a CUDA graph: run once, then only repeat the operations on the same tensors."""
    tape = Tape()
    with tape:
        outputs = run()

    def replay() -> Any:
        tape.play()
        return outputs

    return replay


def recording(engine: Engine) -> Recorder:
    recorder = Recorder(record_tape)
    engine._stepper.call = engine._state.screen._call = recorder
    return recorder


def forward(engine: Engine, *, turn: int) -> Tensor:
    keys = torch.tensor([1, turn]).expand(engine.num_envs, engine.spec.chunk_latents, 2)
    return engine.step(press(keys, engine.c2w, engine.spec.steps)).frames


STOCHASTIC = {"sampler": SamplerConfig(num_steps=3, stochastic=True)}


def both(world: World, memory: MemoryConfig, **options: Any) -> tuple[Engine, Engine, Recorder]:
    """Make an engine that computes and one that replays."""
    plain, recorded = (Engine(world, 2, memory=memory, **options) for _ in range(2))
    return plain, recorded, recording(recorded)


def assert_equal(made: list[list[Tensor]]) -> None:
    for i, (a, b) in enumerate(zip(*made, strict=True)):
        assert torch.equal(a, b), f"chunk {i}"


@pytest.mark.parametrize(
    ("backend", "policy", "changes"),
    [
        ("torch", "worldplay", STOCHASTIC),
        ("torch", "worldscape", {}),
        ("torch", "recent", {}),
        ("triton", "worldplay", {}),
        ("triton", "worldscape", STOCHASTIC),
    ],
    ids=lambda value: value if isinstance(value, str) else "stochastic" if value else "ode",
)
def test_an_episode_equals_the_computed_one(
    tiny_world: World, triton: None, backend: str, policy: str, changes: dict[str, Any]
) -> None:
    """Bit by bit, through retrieval, a pool that overflows and a row that begins anew."""
    *engines, recorder = both(world_of(tiny_world, backend, changes), replace(SMALL, policy=policy))
    made: list[list[Tensor]] = [[], []]
    for frames, engine in zip(made, engines, strict=True):
        engine.reset(seeds=[0, 1], starts=[0, 1])
        frames += [forward(engine, turn=j % 3) for j in range(5)]
        known = len(recorder)
        engine.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
        frames += [forward(engine, turn=j % 2) for j in range(4)]
    assert_equal(made)
    assert len(recorder) == known, "old recordings serve after a reset"
    assert known <= 3, "with empty slots, without (for kernels), and a latent to decode"
    assert not torch.equal(made[1][-1], made[1][-2])


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_pool_that_grows_is_recorded_anew(tiny_world: World, triton: None, backend: str) -> None:
    memory = replace(SMALL, policy="worldscape", pool_entries=0, gain=-1.0)
    *engines, recorder = both(world_of(tiny_world, backend, {}), memory, decode=False)
    made: list[list[Tensor]] = [[], []]
    addresses = set()
    for latents, engine in zip(made, engines, strict=True):
        engine.reset(seeds=[0, 1], starts=[0, 1])
        for _ in range(18):
            forward(engine, turn=1)
            latents.append(engine.newest_latents().clone())
            addresses.add(engine.history.address)
    assert_equal(made)
    assert len(addresses) > 2
    assert len(recorder) <= 2, "those of pools that are gone are dropped"


def test_full_contexts_are_recorded_apart(tiny_world: World, triton: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense attention after the gather leaves out the mask of a full context: the next one has empty slots again."""
    monkeypatch.setattr(PagedCache, "kernel", "gather")
    memory = replace(SMALL, policy="recent")
    *engines, recorder = both(world_of(tiny_world, "triton", {}), memory, decode=False)
    engines[0].reset(seeds=[0, 1], starts=[0, 1])
    for _ in range(6):
        forward(engines[0], turn=1)
    old = engines[0].clone_state([0, 1])
    made: list[list[Tensor]] = [[], []]
    for latents, engine in zip(made, engines, strict=True):
        engine.reset(seeds=[0, 1], starts=[0, 1])
        engine.restore_state(old, [0, 1])
        for reset in (False, True, False):
            if reset:
                engine.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
            forward(engine, turn=1)
            latents.append(engine.newest_latents().clone())
    assert_equal(made)
    assert len(recorder) == 2, "full at first, then with empty slots"


def test_inputs_are_copied_when_they_have_changed() -> None:
    recorder, a, b = Recorder(record_tape), torch.ones(3), torch.full((3,), 5.0)

    def double(x: Tensor) -> Tensor:
        return x + x

    found = [recorder(double, x).clone() for x in (a, b, a)]
    a.add_(1)
    found.append(recorder(double, a))
    with torch.inference_mode():
        c = torch.full((3,), 7.0)
        found += [recorder(double, c).clone(), recorder(double, c.add_(1))]
    found.append(recorder(double, b))
    assert [float(x[0]) for x in found] == [2, 10, 2, 4, 14, 16, 10]
    assert len(recorder) == 1
    with torch.inference_mode():
        recorder(double, torch.ones(2))
    assert float(recorder(double, torch.full((2,), 2.0))[0]) == 4, "a recording of inference mode serves outside of it"


def test_inference_mode_may_come_and_go(tiny_world: World) -> None:
    *engines, _ = both(world_of(tiny_world, "torch", STOCHASTIC), SMALL)
    made: list[list[Tensor]] = [[], []]
    for frames, engine in zip(made, engines, strict=True):
        with torch.inference_mode(engine is engines[1]):
            engine.reset(seeds=[0, 1], starts=[0, 1])
            frames.append(forward(engine, turn=1).clone())
        frames.append(forward(engine, turn=1))
        with torch.inference_mode(engine is engines[1]):
            frames.append(forward(engine, turn=2).clone())
    assert_equal(made)


def test_a_prompt_is_copied_when_it_changes(tiny_world: World) -> None:
    world = world_of(tiny_world, "torch", {}, text_dim=6)
    plain, recorded = (Engine(world, 2, memory=SMALL, decode=False) for _ in range(2))
    recorder = recording(recorded)
    made: list[list[Tensor]] = [[], []]
    for i, engine in enumerate((plain, recorded)):
        engine.set_prompt(torch.ones(1, 5, 6))
        engine.reset(seeds=[0, 1], starts=[0, 1])
        for prompt in (1.0, 1.0, -2.0):
            engine.set_prompt(torch.full((1, 5, 6), prompt))
            forward(engine, turn=1)
            made[i].append(engine.newest_latents().clone())
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    assert len(recorder) == 1


def test_a_start_view_inside_its_chunk(tiny_world: World) -> None:
    world = world_of(tiny_world, "torch", {"spec": replace(tiny_world.spec, start_in_chunk=True)})
    plain, recorded = (Engine(world, 2, memory=SMALL) for _ in range(2))
    recording(recorded)
    made: list[list[Tensor]] = [[], []]
    for i, engine in enumerate((plain, recorded)):
        engine.reset(seeds=[0, 1], starts=[0, 1])
        made[i] += [forward(engine, turn=j % 3) for j in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


class OnDevice(TorchDispatchMode):
    """Refuses copies between devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.device.type for x in leaves(args) if isinstance(x, Tensor) and x.ndim}
        made = {x.device.type for x in leaves(out) if isinstance(x, Tensor) and x.ndim}
        assert len(given | made) <= 1, f"{func}: {given} to {made} while a chunk is recorded"
        return out


def move(history: History) -> None:
    """Bring what lies on the device, all of which chunks share, to the meta device."""
    cache = history._cache
    if isinstance(cache, KVCache):
        cache.buffer = cache.buffer.to("meta")
    for pool in {getattr(cache, "pool", None), history.store and history.store.pool} - {None}:
        pool.keys, pool.values = pool.keys.to("meta"), pool.values.to("meta")
    if isinstance(cache, PagedCache):
        cache.context, cache.chunk = cache.context.to("meta"), cache.chunk.to("meta")


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_nothing_is_fetched_from_the_host(
    tiny_world: World, triton: None, monkeypatch: pytest.MonkeyPatch, backend: str, policy: str
) -> None:
    """On a meta device, which holds no numbers: looking at one raises."""
    engine = Engine(world_of(tiny_world, backend, STOCHASTIC), 2, memory=replace(SMALL, policy=policy), decode=False)
    engine.reset(seeds=[0, 1], starts=[0, 1])
    forward(engine, turn=1)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def spy(function: Callable[..., Any], *inputs: Any, key: object = None) -> Any:
        calls.append((function, inputs))
        return function(*inputs)

    engine._stepper.call = spy
    forward(engine, turn=1)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which knows no meta device
    ((chunk, inputs),) = calls
    engine.world.dit.to("meta")
    move(engine.history)
    inputs = map_tensors(lambda x: x.to("meta"), inputs)
    chunk(*inputs)  # what a warm-up run does: constants are brought over
    with OnDevice():
        latents, recorded, *_ = chunk(*inputs)
    assert latents.is_meta
    assert (recorded is not None) == (policy == "worldscape")


def test_capture_is_refused_where_nothing_can_be_recorded(tiny_world: World) -> None:
    with pytest.raises(ValueError, match="a world on cpu"):
        Engine(tiny_world, 1, capture=True)
    with pytest.raises(ValueError, match="rolling window"):
        Engine(tiny_world, 1, sampler=SamplerConfig(rolling=True, stochastic=True), capture=True)


def test_inputs_keep_their_structure() -> None:
    known = Known(torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, 3, 4, 5))
    value = (known, [torch.zeros(2), None], 3, Track(keys=torch.ones(6)))
    doubled = map_tensors(lambda x: x + x, value)
    assert isinstance(doubled[0], Known)
    assert doubled[1][1] is None
    assert doubled[2] == 3
    assert isinstance(doubled[3], Track)
    assert float(doubled[3]["keys"][0]) == 2
    assert [x.shape for x in leaves(doubled) if isinstance(x, Tensor)] == [(1, 2), (1, 2, 3, 4, 5), (2,), (6,)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to record a graph on")
@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_a_graph_on_a_gpu(tiny_world: World, backend: str, policy: str) -> None:
    """With compiled kernels: TRITON_INTERPRET=0."""
    if backend == "triton" and interpreting():
        pytest.skip("Triton interprets, and an interpreter cannot be recorded")
    world = world_of(deepcopy(tiny_world), "torch", STOCHASTIC)
    world.vae.to("cuda", torch.bfloat16)
    world.dit.to("cuda")
    world.compute_with(dtype=torch.bfloat16, backend=backend)
    plain, recorded = (Engine(world, 2, memory=replace(SMALL, policy=policy), capture=c) for c in (False, True))
    made: list[list[Tensor]] = [[], []]
    for frames, engine in zip(made, (plain, recorded), strict=True):
        engine.reset(seeds=[0, 1], starts=[0, 1])
        frames += [forward(engine, turn=j % 3) for j in range(5)]
        engine.reset(seeds=[7, 8], starts=[5, 6], mask=torch.tensor([False, True]))
        frames += [forward(engine, turn=1) for _ in range(2)]
    for a, b in zip(*made, strict=True):
        assert (a.int() - b.int()).abs().max() <= 4
