"""Norm, rows and columns, pages: the kernel against the definition, the definition against the model's layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldenv.models.layers import RMSNorm
from worldenv.models.rope import apply_rope, rope_table
from worldenv_kernels import Pages, kv_write, make_pages, space_table
from worldenv_kernels.kv_write.ref import kv_write_ref
from worldenv_kernels.pages import SCALE_BLOCK, quantise, read_keys

ROWS, COLUMNS, THETA = 3, 5, 10000.0


def inputs(heads: int, head_dim: int, *, rows: int = ROWS, columns: int = COLUMNS) -> dict[str, Tensor]:
    torch.manual_seed(heads)
    return {
        "qkv": torch.randn(2, 2, rows * columns, 3, heads, head_dim),
        "weight_q": torch.rand(heads * head_dim) + 0.5,
        "weight_k": torch.rand(heads * head_dim) + 0.5,
    }


def poisoned(num_pages: int, tokens: int, heads: int, head_dim: int, *, forms: int, quantised: bool) -> Pages:
    pages = make_pages(num_pages, tokens, heads, head_dim, forms=forms, quantised=quantised, dtype=torch.float32)
    for tensor in (pages.keys, pages.values, pages.mean, pages.scale):
        if tensor is not None:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 77)
    return pages


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 32), (3, 128)])
@pytest.mark.parametrize(
    ("forms", "turned", "quantised"), [(1, False, False), (1, True, False), (2, True, False), (2, True, True)]
)
def test_the_kernel_equals_its_definition(
    triton: None, heads: int, head_dim: int, forms: int, turned: bool, quantised: bool
) -> None:
    from worldenv_kernels.kv_write.kernel import kv_write_fwd

    given, tokens = inputs(heads, head_dim), ROWS * COLUMNS
    slots = torch.tensor([[4, -1], [0, 2]], dtype=torch.int32)
    space = space_table(ROWS, COLUMNS, head_dim=head_dim, theta=THETA) if turned else None
    found, expected = (poisoned(6, tokens, heads, head_dim, forms=forms, quantised=quantised) for _ in range(2))
    wide = {name: t.double() for name, t in given.items()}
    if not quantised:
        expected = replace(expected, keys=expected.keys.double(), values=expected.values.double())
    wanted = kv_write_ref(*wide.values(), expected, slots, space, eps=1e-6)
    q = torch.full(wanted.shape, float("nan"))
    kv_write_fwd(*given.values(), found, slots, space, q, eps=1e-6)

    torch.testing.assert_close(q.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.values.double(), expected.values.double(), rtol=0, atol=0, equal_nan=True)
    assert found.values[1].isnan().all()  # no slot names this page
    if not quantised:
        torch.testing.assert_close(found.keys.double(), expected.keys, rtol=1e-5, atol=1e-5, equal_nan=True)
        return
    assert (found.keys[1] == 77).all()
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-5, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(found.scale, expected.scale, rtol=1e-5, atol=1e-7, equal_nan=True)
    apart = (found.keys.int() - expected.keys.int()).abs()
    assert apart.max() <= 1  # a value between two steps may fall either way
    assert (apart > 0).float().mean() < 1e-3


def test_int8_of_a_page_that_is_no_multiple_of_the_block(triton: None) -> None:
    rows, columns, heads, head_dim = 6, 11, 1, 32
    assert rows * columns > SCALE_BLOCK
    assert rows * columns % SCALE_BLOCK
    given = {name: t[:1, :1] if name == "qkv" else t for name, t in inputs(heads, head_dim, rows=6, columns=11).items()}
    slots, space = torch.tensor([[1]]).int(), space_table(rows, columns, head_dim=head_dim, theta=THETA)
    found, exact = (
        poisoned(2, rows * columns, heads, head_dim, forms=1, quantised=quantised) for quantised in (True, False)
    )
    kv_write(**given, pages=found, slots=slots, space=space, backend="triton")
    kv_write(**given, pages=exact, slots=slots, space=space, backend="torch")
    back = read_keys(found, torch.tensor([1]), dtype=torch.float64)
    assert found.scale is not None
    steps = found.scale[1:].repeat_interleave(SCALE_BLOCK, 1)[:, : rows * columns, ..., None]
    assert ((back - exact.keys[1:]).abs() <= 0.501 * steps).all()


def test_bfloat16(triton: None) -> None:
    given = {name: t.bfloat16() for name, t in inputs(3, 64).items()}
    slots, space = torch.arange(4, dtype=torch.int32).view(2, 2), space_table(ROWS, COLUMNS, head_dim=64, theta=THETA)
    pages = [make_pages(4, ROWS * COLUMNS, 3, 64, forms=2) for _ in range(2)]
    q = [kv_write(**given, pages=p, slots=slots, space=space, backend=b) for p, b in zip(pages, ("triton", "torch"))]
    for found, expected in ((q[0], q[1]), (pages[0].keys, pages[1].keys)):
        torch.testing.assert_close(found.float(), expected.float(), rtol=2**-6, atol=2**-6)
    assert torch.equal(pages[0].values, pages[1].values)


def test_the_definition_is_the_models() -> None:
    """Two forms: what rows and columns make of normed keys (at time 0), and normed keys as they are."""
    given, slots = inputs(2, 64), torch.arange(4, dtype=torch.int32).view(2, 2)
    pages = make_pages(4, ROWS * COLUMNS, 2, 64, forms=2, dtype=torch.float32)
    q = kv_write(**given, pages=pages, slots=slots, space=space_table(ROWS, COLUMNS, head_dim=64, theta=THETA))
    angles = rope_table(torch.zeros(2, 2), rows=ROWS, columns=COLUMNS, head_dim=64, theta=THETA)
    for part, weight, found in ((0, "weight_q", q), (1, "weight_k", pages.keys.view_as(q))):
        norm = RMSNorm(128)
        norm.weight.data = given[weight]
        normed = norm(given["qkv"][:, :, :, part].flatten(-2)).unflatten(-1, (2, 64))
        torch.testing.assert_close(found[..., 1, :, :], normed)
        torch.testing.assert_close(found[..., 0, :, :], apply_rope(normed, angles), rtol=1e-5, atol=1e-5)
    assert torch.equal(pages.values.view(2, 2, ROWS * COLUMNS, 2, 64), given["qkv"][:, :, :, 2])


def test_quantised_keys_come_back() -> None:
    keys = torch.randn(3, 2 * SCALE_BLOCK + 3, 2, 2, 8) + 10 * torch.randn(1, 1, 2, 2, 8)
    steps, mean, scale = quantise(keys)
    pages = Pages(keys=steps, values=keys[:, :, 0].contiguous(), mean=mean, scale=scale)
    assert scale.shape == (3, 3, 2, 2)
    back = read_keys(pages, torch.tensor([[2, 0]]), dtype=torch.float32)
    assert (back - keys[torch.tensor([[2, 0]])]).abs().max() <= 0.51 * float(scale.max())


def test_errors_say_what_to_do() -> None:
    given, slots = inputs(2, 64), torch.zeros(2, 2, dtype=torch.int32)
    pages, space = make_pages(4, 15, 2, 64), space_table(ROWS, COLUMNS, head_dim=64, theta=THETA)
    with pytest.raises(ValueError, match=r"expected \(P, 15, 2, 64\)"):
        kv_write(**given, pages=make_pages(4, 16, 2, 64), slots=slots, space=space)
    with pytest.raises(ValueError, match="slots is"):
        kv_write(**given, pages=pages, slots=slots[:1], space=space)
    with pytest.raises(ValueError, match="pass space"):
        kv_write(**given, pages=make_pages(4, 15, 2, 64, forms=2), slots=slots, space=None)
    with pytest.raises(ValueError, match="weight_k is"):
        kv_write(**{**given, "weight_k": torch.ones(64)}, pages=pages, slots=slots, space=space)
    with pytest.raises(ValueError, match="pass mean and scale with int8 keys"):
        Pages(keys=pages.keys.to(torch.int8), values=pages.values)
    with pytest.raises(ValueError, match="not contiguous"):
        Pages(keys=pages.keys[:, ::2], values=pages.values[:, ::2])
