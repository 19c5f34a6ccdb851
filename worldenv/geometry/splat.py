"""Forward splatting: what pictures with depth show of other cameras' views.

A source pixel is a small planar patch: its inverse depth and the slopes of that, for a plane is linear in 1 / z. Every
patch's centre is projected into the target camera, where the nearest wins a pixel; through the winner's plane the
centre of that pixel leads back to a place in the source, exactly for flat surfaces, and there the colour is looked up.
A pixel that no centre hit takes the patch of a neighbour if it reaches there, so that near walls have no cracks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .pose import invert_se3

NEAR = 0.05
"""Metres in front of a camera from which a point shows."""
REACH = 1.02
"""Source pixels that a patch reaches from its centre, each way: to the centres of its neighbours."""
SHINES = 0.87
"""A pixel whose neighbour's patch lies nearer than this share of its own depth, and covers it, was a crack."""
POINTS = 2**17
"""Points that are projected at once, so that they stay in the cache."""


@dataclass(frozen=True)
class Splat:
    """What is known of some views."""

    colour: Tensor  # (B, V, C, H, W) float32, 0 in holes
    depth: Tensor  # (B, V, H, W) float32 metres along z, inf in holes

    @property
    def known(self) -> Tensor:
        """Which pixels are no holes, (B, V, H, W) bool."""
        return self.depth.isfinite()


@torch.no_grad()
def splat(
    frames: Tensor,  # (B, S, C, H, W) float
    depth: Tensor,  # (B, S, H, W) metres along z
    source: Tensor,  # (B, S, 4, 4) c2w
    target: Tensor,  # (B, V, 4, 4) c2w
    K: Tensor,  # (3, 3) pixels, of sources and targets
    *,
    valid: Tensor | None = None,  # (B, S) bool: sources to use
    slack: float = 0.0,
) -> Splat:
    """Show what the sources know of the targets' views.

    Of two sources that show a surface the nearer point wins; ``slack`` is the share of its distance by which a point
    may lie further than that of a later source and still win, so that sources are in order of trust.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _check(frames, depth, source, target)
    batch, num_sources, channels, height, width = frames.shape
    patches = _Patches.of(frames.float(), depth.float(), valid)
    K = K.double().to(depth.device)
    motion = invert_se3(target.double())[:, :, None] @ source.double()[:, None]  # (B, V, S, 4, 4)
    turn = K @ motion[..., :3, :3] @ K.inverse()
    ways = torch.cat([turn, K @ motion[..., :3, 3:]], -1).float().flatten(0, 1)  # (B V, S, 3, 4)
    views = torch.arange(batch, device=depth.device).repeat_interleave(target.shape[1])
    block = max(1, POINTS // (num_sources * height * width))
    shown = [patches.show(w, b, slack) for w, b in zip(ways.split(block), views.split(block), strict=True)]
    colour, seen = (torch.cat(part) for part in zip(*shown, strict=True))
    return Splat(
        colour.view(batch, -1, height, width, channels).movedim(-1, 2), seen.view(batch, -1, height, width)
    )  # fmt: skip


def _check(frames: Tensor, depth: Tensor, source: Tensor, target: Tensor) -> None:
    batch, num_sources, _, height, width = frames.shape
    wanted = {"depth": (depth, (batch, num_sources, height, width)), "source": (source, (batch, num_sources, 4, 4)),
              "target": (target, (batch, target.shape[1], 4, 4))}  # fmt: skip
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; frames {tuple(frames.shape)} need {shape}")


@dataclass(frozen=True)
class _Patches:
    """The sources' pixels as planar patches, numbered over sources, rows and columns."""

    size: tuple[int, int, int]  # S, H, W
    inverse: Tensor  # (B, S, H, W): 1 / z, 0 where there is nothing
    planes: Tensor  # (B S H W, 3): 1 / z and its slopes along u and v, per pixel
    colours: Tensor  # (B S H W, C)

    @classmethod
    def of(cls, frames: Tensor, depth: Tensor, valid: Tensor | None) -> _Patches:
        there = (depth > NEAR) & depth.isfinite()
        if valid is not None:
            there = there & valid[:, :, None, None]
        inverse = torch.where(there, 1 / depth, 0.0)
        planes = torch.stack([inverse, _slope(inverse, -1), _slope(inverse, -2)], -1)
        return cls(
            (depth.shape[1], *depth.shape[2:]), inverse, planes.flatten(0, 3), frames.movedim(2, -1).flatten(0, 3)
        )  # fmt: skip

    def show(
        self,
        ways: Tensor,  # (N, S, 3, 4): of each view, from source pixels (u, v, 1, 1 / z) to its homogeneous pixels
        rows: Tensor,  # (N,) int64: whose sources each view has
        slack: float,
    ) -> tuple[Tensor, Tensor]:
        """Return colour (N, H W, C) and depth (N, H W) of some views."""
        keys = self._nearest(ways, rows, slack)
        size, device = keys[0].numel(), keys.device
        depth = torch.full((keys.numel(),), math.inf, device=device)
        colour = torch.zeros(keys.numel(), self.colours.shape[1], device=device)
        for choice in _candidates(keys):
            missed = (depth.isinf() & choice.isfinite()).nonzero()[:, 0]
            view, pixel = missed.div(size, rounding_mode="floor"), missed % size
            place, z = self._solve(ways, rows, view, pixel, choice.index_select(0, missed))
            found = z.isfinite().nonzero()[:, 0]
            where = missed.index_select(0, found)
            depth.index_copy_(0, where, z.index_select(0, found))
            colour.index_copy_(0, where, self._look_up(*(x.index_select(0, found) for x in place)))
        return colour.view(len(ways), size, -1), depth.view(len(ways), size)

    def _number(self, key: Tensor) -> Tensor:
        """Read the patch's number off a key; any for holes."""
        bits, kind = _key_bits(math.prod(self.size))
        return (key.view(kind) & ((1 << bits) - 1)).long().clamp_(max=math.prod(self.size) - 1)

    def _nearest(self, ways: Tensor, rows: Tensor, slack: float) -> Tensor:
        """Let each patch's centre fall on a pixel of each view; return the nearest ones' keys, (N, H, W), or inf.

        A key is a positive float: the upper bits of a depth, below them the patch's number.
        """
        count, height, width = self.size
        u, v = (torch.arange(n, device=ways.device) + 0.5 for n in (width, height))
        inverse = self.inverse[rows]
        x, y, w = (
            torch.addcmul(
                ways[:, :, i, :1, None] * u + (ways[:, :, i, 1, None] * v + ways[:, :, i, 2, None])[..., None],
                ways[:, :, i, 3, None, None], inverse,
            )
            for i in range(3)
        )  # fmt: skip
        column, row, z = (x / w).floor_(), (y / w).floor_(), w / inverse
        inside = (z > NEAR) & (column >= 0) & (column < width) & (row >= 0) & (row < height) & (inverse > 0)
        where = torch.where(inside, row * width + column, float(height * width)).long()
        if slack:
            z = z * (1 + slack) ** torch.arange(count, device=z.device)[:, None, None]
        bits, kind = _key_bits(math.prod(self.size))
        number = torch.arange(math.prod(self.size), device=z.device, dtype=kind).view(self.size)
        whole = z.to(torch.float32 if kind == torch.int32 else torch.float64)
        key = ((whole.view(kind) & (-1 << bits)) | number).view(whole.dtype)
        found = whole.new_full((len(ways), height * width + 1), math.inf)
        key = torch.where(inside, key, math.inf)
        found.scatter_reduce_(1, where.flatten(1), key.flatten(1), "amin")
        return found[:, :-1].unflatten(1, (height, width))

    def _solve(
        self, ways: Tensor, rows: Tensor, view: Tensor, pixel: Tensor, key: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Follow pixels (M,) of views (M,) back through their patches' planes.

        Returns places (where a source's pixels begin in the tables, u, v), and depths, inf where the patch does not
        reach; all (M,).
        """
        count, height, width = self.size
        number = self._number(key)
        source, inner = number // (height * width), number % (height * width)
        begin = rows[view] * count + source
        u, v = (inner % width).float() + 0.5, inner.div(width, rounding_mode="floor").float() + 0.5
        inverse, slope_u, slope_v = self.planes.index_select(0, begin * (height * width) + inner).unbind(-1)
        way = ways.flatten(0, 1).index_select(0, view * count + source).flatten(1).T.contiguous().view(3, 4, -1)
        # Homogeneous pixel of the patch's centre, and how it changes along the plane.
        centre = way[:, 0] * u + way[:, 1] * v + way[:, 2] + way[:, 3] * inverse
        along_u, along_v = way[:, 0] + way[:, 3] * slope_u, way[:, 1] + way[:, 3] * slope_v
        x, y = (pixel % width).float() + 0.5, pixel.div(width, rounding_mode="floor").float() + 0.5
        a00, a01, b0 = along_u[0] - x * along_u[2], along_v[0] - x * along_v[2], x * centre[2] - centre[0]
        a10, a11, b1 = along_u[1] - y * along_u[2], along_v[1] - y * along_v[2], y * centre[2] - centre[1]
        determinant = a00 * a11 - a01 * a10
        du, dv = (b0 * a11 - b1 * a01) / determinant, (b1 * a00 - b0 * a10) / determinant
        z = (centre[2] + du * along_u[2] + dv * along_v[2]) / (inverse + du * slope_u + dv * slope_v)
        covers = key.isfinite() & (du.abs() <= REACH) & (dv.abs() <= REACH) & (z > NEAR)  # nan is no place
        place = begin * (height * width), u + du, v + dv
        return place, torch.where(covers, z, math.inf)

    def _look_up(self, begin: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the colours at places (M,) between pixel centres, (M, C)."""
        _, height, width = self.size
        u, v = ((x - 0.5).nan_to_num(0.0).clamp_(0, n - 1) for x, n in ((u, width), (v, height)))
        left, top = u.floor(), v.floor()
        right, below = (left + 1).clamp_(max=width - 1), (top + 1).clamp_(max=height - 1)
        upper, lower = (
            torch.lerp(
                self.colours.index_select(0, begin + (line * width + left).long()),
                self.colours.index_select(0, begin + (line * width + right).long()), (u - left)[:, None],
            )
            for line in (top, below)
        )  # fmt: skip
        return torch.lerp(upper, lower, (v - top)[:, None])


def _key_bits(points: int) -> tuple[int, torch.dtype]:
    """Return how many bits of a key number so many patches, and its integer type: 7 bits of the depth's remain."""
    bits = max(1, (points - 1).bit_length())
    return (bits, torch.int32) if bits <= 16 else (bits, torch.int64)


def _candidates(keys: Tensor) -> list[Tensor]:
    """Return the patches to try for each pixel in order, each (N H W,).

    Its own, unless a neighbour's shines through in front of it; then those beside it, across its corners, and further
    away.
    """
    across, along = _least(keys, 2), _least(keys, 1)
    around = _least(across, 1)
    shines = around.float() < SHINES * keys.float()
    left, right, above, below = (_moved(keys, axis, step) for axis in (2, 1) for step in (1, -1))
    first, second, third = (
        torch.where(shines, a, b) for a, b in ((across, keys), (along, left), (keys, right))
    )  # fmt: skip
    wide = _least(_least(around, 1), 2)
    corners = [_moved(_moved(keys, 1, i), 2, j) for i in (1, -1) for j in (1, -1)]
    return [x.flatten() for x in (first, second, third, above, below, *corners, wide)]


def _moved(
    keys: Tensor,  # (N, H, W)
    axis: int,
    step: int,  # 1 or -1
) -> Tensor:
    """Return what the neighbours on one side have; inf outside."""
    size = keys.shape[axis] - 1
    edge = torch.full_like(keys.narrow(axis, 0, 1), math.inf)
    inner = keys.narrow(axis, 0 if step > 0 else 1, size)
    return torch.cat([edge, inner] if step > 0 else [inner, edge], axis)


def _least(
    keys: Tensor,  # (N, H, W)
    axis: int,
) -> Tensor:
    """Return the least of each pixel and its two neighbours along an axis."""
    return torch.minimum(keys, torch.minimum(_moved(keys, axis, 1), _moved(keys, axis, -1)))


def _slope(
    values: Tensor,  # (..., H, W)
    axis: int,
) -> Tensor:
    """Return the change from pixel to pixel, towards the neighbour that is more alike: the same surface's, at edges."""
    ahead = values.diff(dim=axis)
    edge = torch.full_like(values.narrow(axis, 0, 1), math.inf)
    before, after = torch.cat([edge, ahead], axis), torch.cat([ahead, edge], axis)
    return torch.where(before.abs() < after.abs(), before, after)
