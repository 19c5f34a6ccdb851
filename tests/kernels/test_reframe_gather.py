"""Pages to contiguous, placed keys and values: the kernel against the definition, the definition against the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from worldenv.models.prope import apply_heads, head_matrices
from worldenv.models.rope import apply_rope, rope_table
from worldenv_kernels import Pages, reframe_gather, space_table
from worldenv_kernels.heads import turn

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]


@pytest.mark.parametrize(
    ("quantised", "options"),
    [
        (False, {"tokens": 13}),
        (True, {"tokens": 13}),
        (False, {"space": (7, 9), "forms": 1, "head_dim": 64}),
        (False, {"tokens": 111, "forms": 1, "cameras": False, "heads": 3}),
        (True, {"tokens": 111, "forms": 1, "heads": 1}),
        (False, {"tokens": 1, "head_dim": 128, "heads": 1}),
    ],
)
def test_the_kernel_equals_its_definition(triton: None, case: Make, quantised: bool, options: dict[str, Any]) -> None:
    from worldenv_kernels.reframe_gather.kernel import reframe_gather_fwd

    made = case([[-1, 2, 0], [1, -1, -1]], **options)
    pages = made.quantised() if quantised else made.pages
    expected = reframe_gather(pages, made.reframing, dtype=torch.float64, backend="torch")
    out = [torch.full(t.shape, float("nan")) for t in expected]
    for found, wanted in zip(reframe_gather_fwd(pages, made.reframing, *out), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_the_definition_is_the_models(case: Make) -> None:
    """Rows and columns turned at write time, time at read time: together the model's rotation; cameras alike."""
    rows, columns = 3, 5
    made = case([[2, 0, 1]], tokens=rows * columns)
    slots, index = made.reframing.slots, made.reframing.table.long()
    plain, values = made.double_pages().keys[index][..., 1, :, :], made.double_pages().values[index]
    space = space_table(rows, columns, head_dim=32, theta=10000.0)
    turned = turn(plain, *(t[:, None].double() for t in space))
    pages = Pages(keys=torch.stack([turned, plain], 3)[0], values=values[0])
    reframing = case([[0, 1, 2]], tokens=rows * columns).reframing
    keys, out = reframe_gather(pages, reframing, backend="torch")

    angles = rope_table(slots.positions, rows=rows, columns=columns, head_dim=32, theta=10000.0)
    _, camera, _ = head_matrices(slots.projection, slots.unprojection, head_dim=32, dtype=torch.float64)
    expected = torch.cat([apply_rope(plain, angles), apply_heads(plain, camera)], 3).flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(keys, expected, rtol=1e-6, atol=1e-6)
    expected = torch.cat([values, apply_heads(values, camera)], 3).flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)


def test_gradients(triton: None, case: Make, error: Error) -> None:
    made = case([[-1, 1, 0], [1, 1, -1]], tokens=5, head_dim=32)
    keys, values = made.pages.keys.nan_to_num(), made.pages.values.nan_to_num()
    weights = [torch.randn(2, 4, 15, 32) for _ in range(2)]

    def gradients(dtype: torch.dtype, backend: str) -> tuple[Tensor, ...]:
        leaves = [t.to(dtype).clone().requires_grad_() for t in (keys, values)]
        placed = reframe_gather(Pages(keys=leaves[0], values=leaves[1]), made.reframing, backend=backend)
        return torch.autograd.grad(sum((p * w.to(dtype)).sum() for p, w in zip(placed, weights)), leaves)

    for found, expected in zip(gradients(torch.float32, "triton"), gradients(torch.float64, "torch"), strict=True):
        assert error(found, expected) < 1e-6


def test_two_forms_of_keys_need_cameras(case: Make) -> None:
    with pytest.raises(ValueError, match="has no cameras"):
        reframe_gather(case([[0]], tokens=3).pages, case([[0]], tokens=3, cameras=False).reframing)
