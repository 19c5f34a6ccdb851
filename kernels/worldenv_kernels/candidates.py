"""What is timed: every way to do each op on a workload, with its check against the definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .heads import turn
from .memory_attention.op import memory_attention
from .memory_attention.ref import memory_attention_ref, merge, place_queries
from .pages import Pages, make_pages, quantise
from .places import Places, reframe, space_table
from .reframe_gather.op import reframe_gather
from .workloads import Cost, Workload, attention_cost, dense_cost, gather_cost

THETA = 10000.0
CHECKED_TOKENS = 64
"""Query tokens of a latent that are compared with the definition."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to do one thing."""

    op: str
    route: str
    run: Callable[[], object]
    error: Callable[[], float]  # relative, of its result
    tolerance: float
    cost: Cost


def candidates(
    work: Workload, *, device: str, dtype: torch.dtype, backend: str = "triton", flex: bool = True
) -> Iterator[Candidate]:
    """Yield all that is timed for a workload."""
    scene = _Scene(work, device=device, dtype=dtype)
    yield from _attentions(scene, backend=backend, flex=flex)
    yield from _gathers(scene, backend=backend)


class _Scene:
    """Random tensors of a workload."""

    def __init__(self, work: Workload, *, device: str, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.work = work
        batch, total, latents = work.num_envs, work.slots, work.num_envs * work.slots
        self.pages = make_pages(latents, work.tokens, work.heads, work.head_dim, forms=2, dtype=dtype, device=device)
        self.table = torch.arange(latents, dtype=torch.int32, device=device).view(batch, total)
        self.space = space_table(work.rows, work.columns, head_dim=work.head_dim, theta=THETA, device=device)
        self.q = torch.randn(batch, work.frames, work.tokens, 2, work.heads, work.head_dim, device=device).to(dtype)
        for forms in (self.q, self.pages.keys.normal_()):  # turned by rows and columns, and plain
            forms[..., 0, :, :] = turn(forms[..., 1, :, :].float(), *(t[:, None] for t in self.space)).to(dtype)
        self.pages.values.normal_()
        c2w = _cameras(batch, total, device=device)
        slots = Places(
            positions=torch.arange(total, device=device).expand(batch, -1),
            projection=torch.linalg.inv(c2w),
            unprojection=c2w,
        )
        assert slots.projection is not None
        queries = Places(
            positions=slots.positions[:, -work.frames :],
            projection=slots.projection[:, -work.frames :],
            unprojection=c2w[:, -work.frames :],
        )
        placed = (queries, slots, self.table)
        self.reframing = reframe(*placed, head_dim=work.head_dim, theta=THETA, full=True)
        self.reading = reframe(*placed, head_dim=work.head_dim, theta=THETA, space=self.space, full=True)

    def plain(self) -> Pages:
        """Return the pages with plain keys only, as a model's pool keeps them; to be read with ``reading``."""
        return Pages(keys=self.pages.keys[:, :, 1:].contiguous(), values=self.pages.values)

    def int8(self) -> Pages:
        """Return the pages with int8 keys."""
        keys, mean, scale = quantise(self.pages.keys)
        return Pages(keys=keys, values=self.pages.values, mean=mean, scale=scale)


def _attentions(scene: _Scene, *, backend: str, flex: bool) -> Iterator[Candidate]:
    work, q, reframing = scene.work, scene.q, scene.reframing
    checked = q[:, :, :CHECKED_TOKENS]
    exact = memory_attention_ref(checked.float(), scene.pages, reframing)
    keys, values = reframe_gather(scene.pages, reframing, backend="torch")

    def candidate(route: str, attend: Callable[[Tensor], Tensor], cost: Cost, *, tolerance: float = 0.02) -> Candidate:
        return Candidate(
            op="memory_attention",
            route=route,
            run=lambda: attend(q),
            cost=cost,
            error=lambda: _error(attend(q)[:, :, :CHECKED_TOKENS], exact),
            tolerance=tolerance,
        )

    def dense(attention: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: merge(attention(place_queries(x, reframing), keys, values), reframing, tokens=work.tokens)

    int8, plain, cost = scene.int8(), scene.plain(), attention_cost(work)
    yield candidate(
        "pages-plain",
        lambda x: memory_attention(x[:, :, :, 1:], plain, scene.reading, backend=backend),
        attention_cost(work, forms=1),
    )
    yield candidate("pages", lambda x: memory_attention(x, scene.pages, reframing, backend=backend), cost)
    yield candidate(
        "pages-int8",
        lambda x: memory_attention(x, int8, reframing, backend=backend),
        attention_cost(work, int8=True),
        tolerance=0.05,
    )
    yield candidate("gather+sdpa", lambda x: memory_attention(x, scene.pages, reframing, backend="gather"), cost)
    yield candidate("sdpa, gathered before", dense(F.scaled_dot_product_attention), dense_cost(work))
    if q.is_cuda:
        yield candidate("cudnn, gathered before", dense(_cudnn), dense_cost(work))
    if flex:
        from torch.nn.attention.flex_attention import flex_attention

        yield candidate("flex, gathered before", dense(torch.compile(flex_attention)), dense_cost(work))


def _cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v)


def _gathers(scene: _Scene, *, backend: str) -> Iterator[Candidate]:
    """Yield what only moves bytes."""
    pages, reframing, work = scene.pages, scene.reframing, scene.work
    keys, values = reframe_gather(pages, reframing, dtype=torch.float32, backend="torch")
    for route in (backend, "torch"):
        yield Candidate(
            op="reframe_gather",
            route=route,
            cost=gather_cost(work),
            tolerance=0.02,
            run=lambda route=route: reframe_gather(pages, reframing, backend=route),  # type: ignore[misc]
            error=lambda route=route: max(  # type: ignore[misc]
                map(_error, reframe_gather(pages, reframing, backend=route), (keys, values))
            ),
        )


def _cameras(*shape: int, device: str) -> Tensor:
    """Return cameras (..., 4, 4) float64 that look around near the origin."""
    yaw = torch.rand(*shape, dtype=torch.float64, device=device)
    c2w = torch.eye(4, dtype=torch.float64, device=device).repeat(*shape, 1, 1)
    c2w[..., 0, 0], c2w[..., 0, 2], c2w[..., 2, 0], c2w[..., 2, 2] = yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()
    c2w[..., :3, 3] = 0.3 * torch.randn(*shape, 3, dtype=torch.float64, device=device)
    return c2w


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())
