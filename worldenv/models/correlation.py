"""How alike places of two maps are, within reach of each other: the correlation volume of FlowNet (section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def correlate(
    first: Tensor,  # (B, C, h, w)
    second: Tensor,  # (B, C, h, w)
    *,
    reach: tuple[int, int],
) -> Tensor:
    """Return the cosine between each place and all within ``reach`` (sideways, up or down) in the other map.

    What all of a map has in common does not count. In float32: small differences of similarity tell what is below a
    pixel. Places outside the map are similar to none.

    Returns:
        (B, (2 y + 1) (2 x + 1), h, w), displacements row by row.
    """
    across, along = reach
    with torch.autocast(first.device.type, enabled=False):
        first, second = (_directions(x.float()) for x in (first, second))
        height = first.shape[2]
        padded = F.pad(second, (across, across, along, along))
        queries = first.permute(0, 2, 3, 1)
        rows = []
        for shift in range(2 * along + 1):
            products = queries @ padded[:, :, shift : shift + height].transpose(1, 2)  # (B, h, w, w + 2 x)
            rows.append(_band(products, 2 * across + 1))
        return torch.cat(rows, -1).permute(0, 3, 1, 2)


def _directions(
    x: Tensor,  # (B, C, h, w)
) -> Tensor:
    """Take away each channel's mean over the map, divide by its deviation, and by the length over channels."""
    x = F.instance_norm(x)
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6)


def expected_shift(
    similarity: Tensor,  # (B, (2 y + 1) (2 x + 1), h, w) from ``correlate``
    sharpness: Tensor,  # ()
    *,
    reach: tuple[int, int],
) -> Tensor:
    """Return the mean displacement under a softmax of the similarities, (B, 2, h, w): right and down, in places."""
    across, along = (torch.arange(-n, n + 1, device=similarity.device, dtype=similarity.dtype) for n in reach)
    chance = (similarity * sharpness).softmax(1).unflatten(1, (len(along), len(across)))
    right = (chance.sum(1) * across[:, None, None]).sum(1)
    down = (chance.sum(2) * along[:, None, None]).sum(1)
    return torch.stack([right, down], 1)


def _band(
    products: Tensor,  # (B, h, w, w + size - 1)
    size: int,
) -> Tensor:
    """Take elements i to i + size - 1 of row i; (B, h, w, size)."""
    batch, height, width, wide = products.shape
    strides = (height * width * wide, width * wide, wide + 1, 1)
    return products.contiguous().as_strided((batch, height, width, size), strides)
