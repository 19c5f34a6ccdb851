"""Random contexts of odd sizes, and oracles in float64. Kernels run in Triton's interpreter (see tests/conftest.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from worldenv.geometry.pose import invert_se3
from worldenv.models.prope import camera_projection
from worldenv_kernels import Pages, Places, Reframing, reframe, space_table
from worldenv_kernels.memory_attention.ref import memory_attention_ref
from worldenv_kernels.pages import quantise

THETA = 10000.0


@dataclass(frozen=True)
class Case:
    """A chunk, its pages and its view of them."""

    q: Tensor  # (B, F, S, forms, N, D)
    pages: Pages
    reframing: Reframing

    def oracle(self) -> Tensor:
        """Return the attention's definition in float64."""
        return memory_attention_ref(self.q.double(), self.double_pages(), self.reframing)

    def double_pages(self) -> Pages:
        """Return the pages in float64."""
        return replace(self.pages, keys=self.pages.keys.double(), values=self.pages.values.double())

    def poisoned(self) -> Tensor:
        """Return an output full of NaN."""
        shape = (*self.q.shape[:3], self.reframing.num_branches, *self.q.shape[4:])
        return torch.full(shape, float("nan"), dtype=self.q.dtype)

    def quantised(self) -> Pages:
        """Return the pages with int8 keys."""
        keys, mean, scale = quantise(self.pages.keys)
        return Pages(keys=keys, values=self.pages.values, mean=mean, scale=scale)


def random_c2w(*shape: int, spread: float) -> Tensor:
    """Return cameras (..., 4, 4) float64 that look anywhere, ``spread`` units apart."""
    axis = torch.nn.functional.normalize(torch.randn(*shape, 3, dtype=torch.float64), dim=-1)
    angle = torch.rand(*shape, 1, dtype=torch.float64) * 2
    x, y, z = (axis * angle).unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    c2w = torch.eye(4, dtype=torch.float64).repeat(*shape, 1, 1)
    c2w[..., :3, :3] = torch.linalg.matrix_exp(skew)
    c2w[..., :3, 3] = spread * torch.randn(*shape, 3, dtype=torch.float64)
    return c2w


def random_places(
    positions: Tensor,  # (B, F)
    *,
    cameras: bool,
    spread: float,
) -> Places:
    """Put latents anywhere in space."""
    if not cameras:
        return Places(positions=positions)
    K = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]], dtype=torch.float64).expand(*positions.shape, 3, 3)
    c2w = random_c2w(*positions.shape, spread=spread)
    assert torch.allclose(invert_se3(c2w) @ c2w, torch.eye(4, dtype=torch.float64), atol=1e-12)
    projection, unprojection = camera_projection(c2w, K)
    return Places(positions=positions, projection=projection, unprojection=unprojection)


def make_case(
    table: list[list[int]],
    *,
    tokens: int = 0,
    space: tuple[int, int] | None = None,
    frames: int = 2,
    heads: int = 2,
    head_dim: int = 32,
    forms: int = 2,
    cameras: bool = True,
    bias: float = 0.0,
    spread: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """Draw a context with this block table; pages that no slot names are NaN.

    With ``space`` (rows, columns) keys are plain and turned on reading.
    """
    torch.manual_seed(seed)
    tokens = space[0] * space[1] if space else tokens
    pages, batch, slots = torch.tensor(table, dtype=torch.int32), len(table), len(table[0])
    number = max(1, int(pages.max()) + 2)
    keys = torch.randn(number, tokens, forms, heads, head_dim) + bias * torch.randn(1, 1, forms, heads, head_dim)
    values = torch.randn(number, tokens, heads, head_dim)
    for page in set(range(number)) - set(pages.flatten().tolist()):
        keys[page] = values[page] = float("nan")
    positions = torch.arange(slots + frames).expand(batch, -1) + torch.randint(0, 9, (batch, 1))
    reframing = reframe(
        random_places(positions[:, slots:], cameras=cameras, spread=spread),
        random_places(positions[:, :slots], cameras=cameras, spread=spread),
        pages,
        head_dim=head_dim,
        theta=THETA,
        space=space_table(*space, head_dim=head_dim, theta=THETA) if space else None,
    )
    q = torch.randn(batch, frames, tokens, forms, heads, head_dim)
    return Case(q.to(dtype), Pages(keys=keys.to(dtype), values=values.to(dtype)), reframing)


@pytest.fixture(scope="session")
def case() -> Callable[..., Case]:
    return make_case


@pytest.fixture(params=["triton", "gather", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every way to compute attention over pages."""
    if request.param == "triton":
        request.getfixturevalue("triton")
    return str(request.param)


@pytest.fixture(scope="session")
def error() -> Callable[[Tensor, Tensor], float]:
    """Return the relative error of a result, NaN where an element was not written."""
    return lambda found, expected: float((found.detach().double() - expected).norm() / expected.norm())
