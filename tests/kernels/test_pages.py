"""int8 keys come back within half a step; pages that do not fit together are refused."""

from __future__ import annotations

import pytest
import torch

from worldenv_kernels import Pages, make_pages
from worldenv_kernels.pages import SCALE_BLOCK, quantise, read_keys


def test_quantised_keys_come_back() -> None:
    """A page's last block is shorter than the others."""
    tokens = 2 * SCALE_BLOCK + 3
    keys = torch.randn(3, tokens, 2, 2, 8) + 10 * torch.randn(1, 1, 2, 2, 8)
    steps, mean, scale = quantise(keys)
    pages = Pages(keys=steps, values=keys[:, :, 0].contiguous(), mean=mean, scale=scale)
    assert scale.shape == (3, 3, 2, 2)
    chosen = torch.tensor([[2, 0]])
    back = read_keys(pages, chosen, dtype=torch.float64)
    step = scale[chosen].repeat_interleave(SCALE_BLOCK, 2)[:, :, :tokens, ..., None]
    assert ((back - keys[chosen]).abs() <= 0.501 * step).all()


def test_errors_say_what_to_do() -> None:
    pages = make_pages(4, 15, 2, 64)
    with pytest.raises(ValueError, match="pass mean and scale with int8 keys"):
        Pages(keys=pages.keys.to(torch.int8), values=pages.values)
    with pytest.raises(ValueError, match="not contiguous"):
        Pages(keys=pages.keys[:, ::2], values=pages.values[:, ::2])
    with pytest.raises(ValueError, match=r"values are \(3, 15, 2, 64\), expected \(4, 15, 2, 64\)"):
        Pages(keys=pages.keys, values=pages.values[:3])
