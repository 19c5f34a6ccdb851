"""Attention over pages against its definition, the model, and itself through contiguous keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldenv.models.attention import attend
from worldenv.models.block import DualAttention
from worldenv.models.place import Place
from worldenv.models.prope import head_matrices
from worldenv.models.rope import rope_table
from worldenv.models.types import DiTConfig
from worldenv_kernels import Pages, Places, memory_attention, reframe, space_table
from worldenv_kernels.heads import turn

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]

TABLES = {
    "gaps": [[-1, 3, -1, 0], [6, 1, 2, 5], [4, -1, -1, -1]],
    "shared": [[2, 2, 0], [-1, 0, 2]],
    "one": [[0]],
}


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("gaps", {"tokens": 13}),
        ("gaps", {"tokens": 13, "forms": 1, "seed": 1}),
        ("gaps", {"space": (3, 5), "forms": 1}),
        ("shared", {"tokens": 63, "head_dim": 64, "heads": 3, "frames": 1}),
        ("shared", {"tokens": 111, "forms": 1, "cameras": False, "heads": 1}),
        ("one", {"tokens": 70, "head_dim": 128, "heads": 1, "frames": 1}),
        ("one", {"space": (7, 11), "forms": 1, "head_dim": 64, "heads": 1, "frames": 1}),
    ],
)
@pytest.mark.parametrize("tma", [False, True])
def test_the_kernel_equals_its_definition(
    triton: None, case: Make, error: Error, table: str, options: dict[str, Any], tma: bool
) -> None:
    from worldenv_kernels.memory_attention.kernel import memory_attention_fwd

    made = case(TABLES[table], **options)
    found = memory_attention_fwd(made.q, made.pages, made.reframing, made.poisoned(), tma=tma)
    assert error(found, made.oracle()) < 1e-6


def test_many_tiles_a_page(triton: None, case: Make, error: Error) -> None:
    from worldenv_kernels.memory_attention.kernel import Tile, memory_attention_fwd

    made, tile = case([[1, 0, -1]], tokens=37, frames=1, heads=1), Tile(block_m=16, block_n=16)
    found = memory_attention_fwd(made.q, made.pages, made.reframing, made.poisoned(), tma=True, tile=tile)
    assert error(found, made.oracle()) < 1e-6


def test_an_env_without_pages_reads_zeros(case: Make, backend: str) -> None:
    made = case([[-1, -1], [0, -1]], tokens=5)
    found = memory_attention(made.q, made.pages, made.reframing, backend=backend)
    assert torch.equal(found[0], torch.zeros_like(found[0]))
    assert found[1].isfinite().all()
    assert found[1].norm() > 0


def test_int8_keys_with_a_bias_stay_within_1_2_percent(triton: None, case: Make, error: Error) -> None:
    from worldenv_kernels.memory_attention.kernel import memory_attention_fwd

    made = case(TABLES["gaps"], tokens=70, head_dim=64, heads=1, frames=1, bias=10.0, spread=0.2)
    pages = made.quantised()
    for tma in (False, True):
        found = memory_attention_fwd(made.q, pages, made.reframing, made.poisoned(), tma=tma)
        assert error(found, made.oracle()) < 0.012


def test_int8_without_the_mean_would_miss(case: Make, error: Error) -> None:
    """What the page's mean is for: a bias takes up the steps that the rest needs."""
    made = case([[0, 1]], tokens=70, head_dim=64, bias=10.0, spread=0.2)
    kept = memory_attention(made.q.double(), made.quantised(), made.reframing)
    scale = made.pages.keys.nan_to_num().abs().amax() / 127
    keys = (made.pages.keys.double() / scale).round() * scale
    plain = memory_attention(made.q.double(), replace(made.double_pages(), keys=keys), made.reframing)
    assert error(kept, made.oracle()) < 0.01 < 0.02 < error(plain, made.oracle())


def test_bfloat16_pages(triton: None, case: Make) -> None:
    made = case(TABLES["shared"], tokens=13, dtype=torch.bfloat16)
    found = memory_attention(made.q, made.pages, made.reframing, backend="triton")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), made.oracle(), rtol=2**-7, atol=2**-7)


@settings(max_examples=12, deadline=None)
@given(
    table=st.integers(1, 4).flatmap(
        lambda slots: st.lists(st.lists(st.integers(-1, 3), min_size=slots, max_size=slots), min_size=1, max_size=2)
    ),
    tokens=st.integers(1, 20),
    frames=st.integers(1, 2),
    forms=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_any_table_and_page_size(
    triton: None, case: Make, table: list[list[int]], tokens: int, frames: int, forms: int, seed: int
) -> None:
    from worldenv_kernels.memory_attention.kernel import memory_attention_fwd

    made = case(table, tokens=tokens, frames=frames, heads=1, forms=forms, seed=seed)
    found = memory_attention_fwd(made.q, made.pages, made.reframing, made.poisoned(), tma=False)
    torch.testing.assert_close(found.double(), made.oracle(), rtol=1e-4, atol=1e-4)


def test_rows_do_not_see_each_other(triton: None, case: Make) -> None:
    """An env's result is bit-identical whoever steps beside it."""
    made = case(TABLES["gaps"], tokens=13)
    together = memory_attention(made.q, made.pages, made.reframing, backend="triton")
    other = made.q.clone()
    other[:2] = torch.randn_like(other[:2])
    assert torch.equal(memory_attention(other, made.pages, made.reframing, backend="triton")[2], together[2])


def test_only_relative_places_matter(triton: None, case: Make, error: Error) -> None:
    """Far from the origin, late in an episode: the result is that of here and now."""
    made = case([[0, 1, 2]], tokens=5, frames=1)
    reframing, far = made.reframing, torch.eye(4, dtype=torch.float64)
    far[:3, 3] = torch.tensor([3000.0, -2000.0, 1000.0])

    def moved(places: Places) -> Places:
        assert places.projection is not None
        assert places.unprojection is not None
        return Places(
            positions=places.positions + 100_000,
            projection=places.projection @ far,
            unprojection=torch.linalg.inv(far) @ places.unprojection,
        )

    away = reframe(moved(reframing.queries), moved(reframing.slots), reframing.table, head_dim=32, theta=10000.0)
    found = memory_attention(made.q, made.pages, away, backend="triton")
    assert error(found, made.oracle()) < 1e-5


@pytest.mark.parametrize("quantised", [False, True])
def test_gradients(case: Make, error: Error, backend: str, quantised: bool) -> None:
    made = case(TABLES["gaps"], tokens=7, frames=1)
    made = replace(made, pages=Pages(keys=made.pages.keys.nan_to_num(), values=made.pages.values.nan_to_num()))
    pages = made.quantised() if quantised else made.pages
    weight = torch.randn_like(made.poisoned())

    def gradients(dtype: torch.dtype, backend: str) -> list[Tensor]:
        leaves = [made.q.to(dtype), pages.values.to(dtype)] + ([] if quantised else [pages.keys.to(dtype)])
        leaves = [leaf.requires_grad_() for leaf in (t.detach().clone() for t in leaves)]
        keys = pages.keys if quantised else leaves[2]
        placed = Pages(keys=keys, values=leaves[1], mean=pages.mean, scale=pages.scale)
        out = memory_attention(leaves[0], placed, made.reframing, backend=backend)
        return list(torch.autograd.grad((out * weight.to(dtype)).sum(), leaves))

    for found, expected in zip(gradients(torch.float32, backend), gradients(torch.float64, "torch"), strict=True):
        assert error(found, expected) < 1e-5


def test_gradients_of_the_definition_are_right(case: Make) -> None:
    made = case([[1, -1, 0]], tokens=2, frames=1, heads=1, head_dim=8)

    def read(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return memory_attention(q, Pages(keys=keys, values=values), made.reframing)

    pages = made.double_pages()
    inputs = (made.q.double(), pages.keys.nan_to_num(), pages.values.nan_to_num())
    assert torch.autograd.gradcheck(read, tuple(t.requires_grad_() for t in inputs))


def test_pages_overwritten_before_the_backward_are_noticed(triton: None, case: Make) -> None:
    made = case([[0]], tokens=2, frames=1, heads=1)
    out = memory_attention(made.q.requires_grad_(), made.pages, made.reframing, backend="triton")
    made.pages.values.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("forms", [1, 2])
def test_the_models_attention_over_pages(case: Make, error: Error, backend: str, forms: int) -> None:
    """memory_attention and the two output projections are the model's dual attention to its own queries, keys, values.

    One form is how the model's pool keeps keys: plain, for both branches; two are keys turned in space, and plain.
    """
    rows, columns, batch, context, frames = 2, 3, 2, 3, 2
    torch.manual_seed(0)
    config = DiTConfig(width=64, num_heads=2, num_layers=1, ffn_dim=8)
    model = DualAttention(config).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(batch, context + frames, rows * columns, config.width, dtype=torch.float64)
    total = context + frames
    slots = torch.arange(batch * total, dtype=torch.int32).view(batch, total)
    placed = case([list(range(total))] * batch, tokens=1).reframing.slots

    place = Place(
        rope_table(placed.positions, rows=rows, columns=columns, head_dim=32, theta=config.rope_theta),
        head_matrices(placed.projection, placed.unprojection, head_dim=32, dtype=torch.float64),
    )
    q, k, v = model.project(x)
    expected = model.merge(place.bring_back(attend(place.queries(q), *place.keys(k, v))))[:, context:].detach()

    narrow = model.float()
    space = space_table(rows, columns, head_dim=32, theta=config.rope_theta)
    q, k, v = (t.detach() for t in narrow.project(x.float()))
    q, k = (torch.stack([turn(t, *(s[:, None] for s in space)), t][-forms:], 3) for t in (q, k))
    pages = Pages(keys=k.flatten(0, 1), values=v.flatten(0, 1).contiguous())
    chunk = Places(*(), **{name: getattr(placed, name)[:, context:] for name in placed.__dataclass_fields__})
    reframing = reframe(chunk, placed, slots, head_dim=32, theta=config.rope_theta, space=space if forms == 1 else None)
    out = memory_attention(q[:, context:], pages, reframing, backend=backend).flatten(-2)
    found = narrow.to_out(out[..., 0, :]) + narrow.to_out_prope(out[..., 1, :])
    assert error(found, expected) < 1e-5


def test_errors_say_what_to_do(case: Make) -> None:
    made = case([[0, 1]], tokens=3)
    with pytest.raises(ValueError, match=r"q is .* expected"):
        memory_attention(made.q[:, :1], made.pages, made.reframing)
    with pytest.raises(ValueError, match="pass head_dim=16 to reframe"):
        memory_attention(made.q, case([[0, 1]], tokens=3, head_dim=16).pages, made.reframing)
    away = Pages(keys=made.pages.keys.to("meta"), values=made.pages.values.to("meta"))
    with pytest.raises(ValueError, match="pages are on meta, the reframing on cpu"):
        memory_attention(made.q, away, made.reframing)
    plain = case([[0, 1]], space=(1, 3), forms=1)
    with pytest.raises(ValueError, match="leave space out of reframe"):
        memory_attention(made.q, made.pages, plain.reframing)
    with pytest.raises(ValueError, match="space has 3 tokens, pages have 4"):
        memory_attention(plain.q, case([[0, 1]], tokens=4, forms=1).pages, plain.reframing)
    with pytest.raises(ValueError, match="has no cameras"):
        memory_attention(made.q, made.pages, case([[0, 1]], tokens=3, cameras=False).reframing)
    with pytest.raises(ValueError, match="known are auto, triton, gather, torch"):
        memory_attention(made.q, made.pages, made.reframing, backend="cuda")
