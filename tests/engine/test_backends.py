"""Every way to compute the packaged world generates the same chunk from the same context."""

from pathlib import Path

import pytest
import torch

from worldenv.bodies.camera import press
from worldenv.engine.engine import Engine
from worldenv.eval.image import psnr
from worldenv.world.world import World, shared_world

CPU = torch.device("cpu")
BFLOAT16 = pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this CPU")


def packaged(**options: str) -> World:
    return World.from_pretrained("maze", **options)


def walk(engine: Engine, steps: int) -> torch.Tensor:
    keys = torch.tensor([1, 1]).expand(engine.num_envs, engine.spec.chunk_latents, 2)
    for _ in range(steps):
        frames = engine.step(press(keys, engine.c2w, engine.spec.steps)).frames
    return frames


@pytest.fixture(scope="module")
def context() -> dict[str, torch.Tensor]:
    """Two episodes at an age at which one chunk is retrieved and every slot of the context is filled."""
    engine = Engine(packaged(dtype="float32"), 2)
    engine.reset(seeds=[1, 2], starts=[3, 4])
    walk(engine, 5)
    return engine.clone_state([0, 1])


def next_frames(world: World, context: dict[str, torch.Tensor]) -> torch.Tensor:
    engine = Engine(world, 2)
    engine.reset(seeds=[0, 0], starts=[0, 0])
    engine.restore_state(context, [0, 1])
    return walk(engine, 1)


@pytest.fixture(scope="module")
def reference(context: dict[str, torch.Tensor]) -> torch.Tensor:
    return next_frames(packaged(dtype="float32", backend="torch"), context)


def test_the_fast_route_equals_the_plain_one(context: dict[str, torch.Tensor], reference: torch.Tensor) -> None:
    frames = next_frames(packaged(dtype="float32", backend="onednn"), context)
    assert (frames.int() - reference.int()).abs().max() <= 1


@BFLOAT16
def test_lower_precision_shows_the_same_frames(context: dict[str, torch.Tensor], reference: torch.Tensor) -> None:
    frames = next_frames(packaged(dtype="auto"), context)
    assert 45 < psnr(frames, reference).min() < 60


@BFLOAT16
def test_rows_are_independent_in_the_fast_route(context: dict[str, torch.Tensor]) -> None:
    """A row that begins anew has empty slots; its neighbour goes on bit by bit."""
    made = []
    for reset in (False, True):
        engine = Engine(packaged(dtype="bfloat16"), 2)
        engine.reset(seeds=[0, 0], starts=[0, 0])
        engine.restore_state(context, [0, 1])
        if reset:
            engine.reset(seeds=[9, 9], starts=[9, 9], mask=torch.tensor([False, True]))
        made.append(walk(engine, 2))
    assert torch.equal(made[0][0], made[1][0])
    assert not torch.equal(made[0][1], made[1][1])


def test_options_are_checked_and_kept_apart(tiny_world_dir: Path) -> None:
    with pytest.raises(ValueError, match="unknown backend 'fast'; choose auto, torch, onednn, triton"):
        World.from_pretrained(tiny_world_dir, backend="fast")
    with pytest.raises(ValueError, match="dtype='half'; choose one of auto, float32, bfloat16"):
        World.from_pretrained(tiny_world_dir, dtype="half")
    one = shared_world(tiny_world_dir, device=CPU, dtype=torch.float32)
    other = shared_world(tiny_world_dir, device=CPU, dtype=torch.float32, backend="onednn")
    assert (one.dit.backend, other.dit.backend) == ("auto", "onednn")
