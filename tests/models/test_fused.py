"""Operations with a backward pass of their own compute what PyTorch computes, and so do their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import make_tiny_world
from tests.training.test_segments import MEMORY, walks
from worldenv.base.device import default_dtype
from worldenv.models import fused
from worldenv.models.backend import OneDNNBackend, TorchBackend
from worldenv.models.rope import apply_rope
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.memory import MemoryStage
from worldenv.world.world import World


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_same(
    found: Callable[..., Tensor], wanted: Callable[..., Tensor], inputs: list[Tensor], *, atol: float = 1e-5
) -> None:
    """Compare outputs and the gradients of every input."""
    results = []
    for function in (found, wanted):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        results.append([out, *torch.autograd.grad(out, leaves, random(*out.shape, seed=9))])
    for a, b in zip(*results, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("scores", [2**21, 1])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("mask", ["none", "per row", "shared"])
def test_a_shared_past_is_read_as_if_it_were_repeated(
    monkeypatch: pytest.MonkeyPatch, scores: int, count: int, mask: str
) -> None:
    monkeypatch.setattr(fused, "SCORES", scores)  # with 1, every row of the batch is a part
    batch, heads, own, past, channels = 3, 2, 7, 11, 5
    rows = 1 if mask == "shared" else batch * count
    seen = None if mask == "none" else random(rows, own, past + own) > -0.3
    if seen is not None:
        seen[..., -1] = True
    inputs = [random(batch * count, heads, own, channels, seed=i) for i in range(3)]
    inputs += [random(batch, heads, past, channels, seed=i) for i in (3, 4)]

    def attend(backend: type[TorchBackend]) -> Callable[..., Tensor]:
        chosen = backend(seen, tokens=1, dtype=torch.float32)
        return lambda q, k, v, past_k, past_v: chosen.attend_after(q, (past_k, past_v), (k, v))

    assert_same(attend(OneDNNBackend), attend(TorchBackend), inputs)


def test_a_linear_layer_and_its_gelu() -> None:
    inputs = [random(3, 5, 63), random(111, 63, seed=1), random(111, seed=2)]
    plain: Callable[..., Tensor] = lambda *x: F.gelu(F.linear(*x), approximate="tanh")  # noqa: E731
    assert_same(fused.linear_gelu, plain, inputs, atol=1e-4)


def test_rms_norm() -> None:
    inputs = [random(3, 5, 63), random(63, seed=1)]
    inputs[0][0, 0] = 0.0
    assert_same(
        lambda x, w: fused.rms_norm(x, w, 1e-6), lambda x, w: F.rms_norm(x, (63,), w, 1e-6), inputs, atol=2e-3
    )  # zeros have gradients of a thousand
    inputs[0][0, 0] = 1.0
    assert_same(lambda x, w: fused.rms_norm(x, w, 1e-6), lambda x, w: F.rms_norm(x, (63,), w, 1e-6), inputs)


def test_rotations_are_turned_back() -> None:
    angle = random(2, 3, 7, 1, 5)
    cosine, sine = (torch.cat([t, t, t, t], -1) for t in (angle.cos(), angle.sin()))
    sine = sine * torch.tensor([-1.0, 1.0, -1.0, 1.0]).repeat_interleave(5)

    def plain(x: Tensor) -> Tensor:
        return x * cosine + x.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3) * sine

    assert_same(lambda x: apply_rope(x, (cosine, sine)), plain, [random(2, 3, 7, 4, 20)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
def test_training_takes_the_same_course(dtype: torch.dtype, tolerance: float) -> None:
    """Thirty steps with one backend and with the other, from the same weights, have the same losses."""
    if dtype == torch.bfloat16 and default_dtype(torch.device("cpu")) != dtype:
        pytest.skip("this CPU does not compute in bfloat16")
    losses = {}
    for backend in ("torch", "onednn"):
        tiny = make_tiny_world()
        world = World(replace(tiny.config, memory=MEMORY), vae=tiny.vae, dit=tiny.dit.requires_grad_(True))
        world.dit.backend = backend
        optim = OptimConfig(batch=2)
        stage = MemoryStage(Material(world, DenoiseConfig(draws=3, cached=0.2), optim.batch, data=walks(world)))
        optimizer = torch.optim.AdamW(world.dit.parameters(), lr=1e-3)
        losses[backend] = []
        for step in range(30):
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                loss, _ = stage.loss(torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[backend].append(loss.item())
    assert losses["onednn"] == pytest.approx(losses["torch"], rel=tolerance)
    assert losses["torch"][-1] < losses["torch"][0]
