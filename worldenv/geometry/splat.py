"""Forward splatting: what pictures with depth show of other cameras' views.

A source pixel is a small planar patch: its inverse depth and the slopes of that, for a plane is linear in 1 / z. Every
patch's centre is projected into the target camera, where the nearest wins a pixel; through the winner's plane the
centre of that pixel leads back to a place in the source, exactly for flat surfaces, and there the colour is looked up.
A pixel that no centre hit takes the patch of a neighbour if it reaches there, so that near walls have no cracks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .pose import invert_se3

NEAR = 0.05
"""Metres in front of a camera from which a point shows."""
REACH = 1.02
"""Source pixels that a patch reaches from its centre, each way: to the centres of its neighbours."""
SHINES = 0.87
"""A pixel whose neighbour's patch lies nearer than this share of its own depth, and covers it, was a crack."""
CROSS = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
RING = tuple((i, j) for i in range(-2, 3) for j in range(-2, 3) if max(abs(i), abs(j)) == 2)
"""Pixels whose patches may reach one that no centre hit, as rows and columns away."""
ROUNDS = 3
"""How often what is still open between known pixels is looked at: gaps of three pixels close."""
POINTS = 2**17
"""Points that a CPU projects at once, so that they stay in its cache."""
GPU_POINTS = 2**23
"""Points that a GPU projects at once, so that they fit its memory."""


@dataclass(frozen=True)
class Splat:
    """What is known of some views."""

    colour: Tensor  # (B, V, C, H, W) float32, 0 in holes
    depth: Tensor  # (B, V, H, W) float32 metres along z, inf in holes

    @property
    def known(self) -> Tensor:
        """Which pixels are no holes, (B, V, H, W) bool."""
        return self.depth < math.inf


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
    restore: Tensor | None = None,  # (B, S): detail that is given back between pixels, times what differs from around
) -> Splat:
    """Show what the sources know of the targets' views.

    Of two sources that show a surface the nearer point wins; ``slack`` is the share of its distance by which a point
    may lie further than that of a later source and still win, so that sources are in order of trust. Colours are read
    bilinearly, which blurs between pixels and at their centres does not; so does ``restore`` what it gives back.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _check(frames, depth, source, target)
    batch, num_sources, channels, height, width = frames.shape
    shown = frames.float() if restore is None else _with_detail(frames.float(), restore)
    patches = _Patches.of(shown, depth.float(), valid, channels)
    K = K.double().to(depth.device)
    motion = invert_se3(target.double())[:, :, None] @ source.double()[:, None]  # (B, V, S, 4, 4)
    turn = K @ motion[..., :3, :3] @ K.inverse()
    ways = torch.cat([turn, K @ motion[..., :3, 3:]], -1).float().flatten(0, 1)  # (B V, S, 3, 4)
    views = torch.arange(batch, device=depth.device).repeat_interleave(target.shape[1])
    parts = _num_parts(len(views), num_sources * height * width, depth.device)
    made = _each(partial(patches.show, slack=slack), ways.tensor_split(parts), views.tensor_split(parts))
    colour, seen = (torch.cat(part) for part in zip(*made, strict=True))
    return Splat(colour.view(batch, -1, height, width, channels).movedim(-1, 2), seen.view(batch, -1, height, width))


def _num_parts(views: int, points: int, device: torch.device) -> int:
    """Return into how many blocks views of so many points each are cut."""
    if device.type != "cpu":
        return min(views, math.ceil(views * points / GPU_POINTS))
    threads = torch.get_num_threads()
    return min(views, math.ceil(math.ceil(views * points / POINTS) / threads) * threads)


def _each(show: Callable[..., tuple[Tensor, Tensor]], *blocks: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Show blocks of views; on a CPU one in each thread, for their operations are too small to share."""
    threads = torch.get_num_threads()
    if threads == 1 or blocks[0][0].device.type != "cpu":
        return [show(*block) for block in zip(*blocks, strict=True)]
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(show, *blocks))
    finally:
        torch.set_num_threads(threads)


def _check(frames: Tensor, depth: Tensor, source: Tensor, target: Tensor) -> None:
    batch, num_sources, _, height, width = frames.shape
    wanted = {
        "depth": (depth, (batch, num_sources, height, width)),
        "source": (source, (batch, num_sources, 4, 4)),
        "target": (target, (batch, target.shape[1], 4, 4)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; frames {tuple(frames.shape)} need {shape}")


@dataclass(frozen=True)
class _Patches:
    """The sources' pixels as planar patches, numbered over sources, rows and columns."""

    size: tuple[int, int, int]  # S, H, W
    inverse: Tensor  # (B, S, H, W): 1 / z, 0 where there is nothing
    table: Tensor  # (6, B S H W): 1 / z and its slopes along u and v, u, v, number of the source
    colours: Tensor  # (B S H W, C), or (B S H W, 2 C) with detail behind
    channels: int  # C

    @classmethod
    def of(cls, frames: Tensor, depth: Tensor, valid: Tensor | None, channels: int) -> _Patches:
        there = (depth > NEAR) & (depth < math.inf)
        if valid is not None:
            there = there & valid[:, :, None, None]
        inverse, (count, height, width) = torch.where(there, 1 / depth, 0.0), depth.shape[1:]
        source, v, u = torch.meshgrid(
            *(torch.arange(n, device=depth.device) for n in (count, height, width)), indexing="ij"
        )
        where = (x.float().expand_as(inverse) for x in (u + 0.5, v + 0.5, source))
        table = torch.stack([inverse, _slope(inverse, -1), _slope(inverse, -2), *where]).flatten(1)
        return cls((count, height, width), inverse, table, frames.movedim(2, -1).flatten(0, 3).contiguous(), channels)

    def show(
        self,
        ways: Tensor,  # (N, S, 3, 4): of each view, from source pixels (u, v, 1, 1 / z) to its homogeneous pixels
        rows: Tensor,  # (N,) int64: whose sources each view has
        *,
        slack: float,
    ) -> tuple[Tensor, Tensor]:
        """Return colour (N, H W, C) and depth (N, H W) of some views."""
        keys = self._nearest(ways, rows, slack)
        count, height, width = keys.shape
        depth = torch.full((keys.numel(),), math.inf, device=keys.device)
        colour = torch.zeros(keys.numel(), self.channels, device=keys.device)
        view = torch.arange(count, device=keys.device).repeat_interleave(height * width)
        v, u = torch.meshgrid(*(torch.arange(n, device=keys.device) + 0.5 for n in (height, width)), indexing="ij")
        pixels = torch.stack([u, v]).flatten(1).repeat(1, count)
        around = F.pad(keys, (2, 2, 2, 2), value=math.inf)
        own = (keys < math.inf) & (_least(around[:, 1:-1, 1:-1]) >= SHINES * keys)

        def place(asked: Tensor, keys: Tensor) -> None:
            """Let pixels (M,) show the nearest of the patches (M, N) that reaches them."""
            many = asked.repeat_interleave(keys.shape[1])
            views, at = view.index_select(0, many), pixels.index_select(1, many)
            places, z = self._solve(ways, rows, views, at, keys.flatten())
            z, first = z.view(keys.shape).min(1)
            found = (z < math.inf).nonzero()[:, 0]
            where, chosen = asked.index_select(0, found), (found * keys.shape[1] + first.index_select(0, found))
            depth.index_copy_(0, where, z.index_select(0, found))
            colour.index_copy_(0, where, self._look_up(*(x.index_select(0, chosen) for x in places)))

        asked = own.flatten().nonzero()[:, 0]
        place(asked, keys.flatten().index_select(0, asked)[:, None])
        asked = ((depth == math.inf) & (_beside(keys < math.inf) > 0).flatten()).nonzero()[:, 0]
        place(asked, _around(around, asked, CROSS))
        for _ in range(ROUNDS):  # what lies between pixels that are known by now
            enclosed = _beside((depth < math.inf).view(keys.shape), edge=1) > 1
            asked = ((depth == math.inf) & enclosed.flatten()).nonzero()[:, 0]
            far = _around(around, asked, RING).amin(1, keepdim=True)
            place(asked, torch.cat([_around(around, asked, CORNERS), far], 1))
        return colour.view(count, height * width, -1), depth.view(count, height * width)

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
                ways[:, :, i, 3, None, None],
                inverse,
            )
            for i in range(3)
        )
        column, row, z = (x / w).floor_(), (y / w).floor_(), w / inverse
        inside = (z > NEAR) & (z < math.inf) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        where = torch.where(inside, torch.add(column, row, alpha=width), float(height * width)).long()
        if slack:
            z = z * (1 + slack) ** torch.arange(count, device=z.device)[:, None, None]
        bits, kind = _key_bits(math.prod(self.size))
        number = torch.arange(math.prod(self.size), device=z.device, dtype=kind).view(self.size)
        whole = z.to(torch.float32 if kind == torch.int32 else torch.float64)
        key = ((whole.view(kind) & (-1 << bits)) | number).view(whole.dtype)
        found = whole.new_full((len(ways), height * width + 1), math.inf)
        found.scatter_reduce_(1, where.flatten(1), key.flatten(1), "amin")
        return found[:, :-1].unflatten(1, (height, width))

    def _solve(
        self,
        ways: Tensor,
        rows: Tensor,
        view: Tensor,  # (M,) int64
        at: Tensor,  # (2, M) u and v of the pixels' centres
        keys: Tensor,  # (M,) of the patches to try there
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Follow pixels of views back through their patches' planes.

        Returns places (where a source's pixels begin in the tables, u, v), and depths, inf where the patch does not
        reach; all (M,).
        """
        patch = self._number(keys) + (rows * math.prod(self.size)).index_select(0, view)
        inverse, slope_u, slope_v, u, v, source = self.table.index_select(1, patch)
        way = ways.flatten(0, 1).movedim(0, -1).flatten(0, 1)
        way = way.index_select(1, view * self.size[0] + source.long()).view(3, 4, -1)
        # Homogeneous pixel of the patch's centre, and how it changes along the plane.
        along_u, along_v = torch.addcmul(way[:, 0], way[:, 3], slope_u), torch.addcmul(way[:, 1], way[:, 3], slope_v)
        centre = torch.addcmul(torch.addcmul(torch.addcmul(way[:, 2], way[:, 0], u), way[:, 1], v), way[:, 3], inverse)
        (a00, a10), (a01, a11) = along_u[:2] - at * along_u[2], along_v[:2] - at * along_v[2]
        b0, b1 = at * centre[2] - centre[:2]
        determinant = a00 * a11 - a01 * a10
        du, dv = (b0 * a11 - b1 * a01) / determinant, (b1 * a00 - b0 * a10) / determinant
        z = (centre[2] + du * along_u[2] + dv * along_v[2]) / (inverse + du * slope_u + dv * slope_v)
        covers = (keys < math.inf) & (du.abs() <= REACH) & (dv.abs() <= REACH) & (z > NEAR)  # not a number is no place
        begin = patch - torch.add(u - 0.5, v - 0.5, alpha=self.size[2]).long()
        return (begin, u + du, v + dv), torch.where(covers, z, math.inf)

    def _number(self, keys: Tensor) -> Tensor:
        """Read patches' numbers off keys; any for holes."""
        bits, kind = _key_bits(math.prod(self.size))
        return (keys.view(kind) & ((1 << bits) - 1)).long().clamp_(max=math.prod(self.size) - 1)

    def _look_up(self, begin: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the colours at places (M,) between pixel centres, (M, C)."""
        _, height, width = self.size
        u, v = (u - 0.5).clamp_(0, width - 1), (v - 0.5).clamp_(0, height - 1)
        left, top = u.floor(), v.floor()
        corner = begin + torch.add(left, top, alpha=width).long()
        right, below = (left < width - 1).long(), width * (top < height - 1).long()
        across, along = (u - left)[:, None], (v - top)[:, None]
        upper, lower = (
            torch.lerp(self.colours.index_select(0, line), self.colours.index_select(0, line + right), across)
            for line in (corner, corner + below)
        )
        read = torch.lerp(upper, lower, along)
        if read.shape[1] == self.channels:
            return read
        colour, detail = read.chunk(2, 1)
        return torch.addcmul(colour, 2 * (across * (1 - across) + along * (1 - along)), detail)


def _with_detail(
    frames: Tensor,  # (B, S, C, H, W)
    restore: Tensor,  # (B, S)
) -> Tensor:
    """Put behind the colours how far they differ from those around, (B, S, 2 C, H, W)."""
    mean = F.avg_pool2d(frames.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(frames)
    return torch.cat([frames, restore[:, :, None, None, None] * (frames - mean)], 2)


def _key_bits(points: int) -> tuple[int, torch.dtype]:
    """Return how many bits of a key number so many patches, and its integer type: 7 bits of the depth's remain."""
    bits = max(1, (points - 1).bit_length())
    return (bits, torch.int32) if bits <= 16 else (bits, torch.int64)


def _least(
    keys: Tensor,  # (N, H + 2, W + 2)
) -> Tensor:
    """Return the least of every pixel and its eight neighbours, (N, H, W)."""
    rows = torch.minimum(torch.minimum(keys[:, :-2], keys[:, 1:-1]), keys[:, 2:])
    return torch.minimum(torch.minimum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _beside(
    known: Tensor,  # (N, H, W) bool
    edge: int = 0,
) -> Tensor:
    """Count the known ones of each pixel and the four beside it, (N, H, W) uint8; beyond the picture ``edge``."""
    wide = F.pad(known.to(torch.uint8), (1, 1, 1, 1), value=edge)
    inner = slice(1, -1)
    across = wide[:, inner, :-2] + wide[:, inner, inner] + wide[:, inner, 2:]
    return across + wide[:, :-2, inner] + wide[:, 2:, inner]


def _around(
    keys: Tensor,  # (N, H + 4, W + 4)
    pixels: Tensor,  # (M,) int64 numbers of pixels of N H W
    steps: tuple[tuple[int, int], ...],  # rows and columns away
) -> Tensor:
    """Return the keys around some pixels, (M, steps)."""
    _, height, width = keys.shape
    size = (height - 4) * (width - 4)
    view, inner = pixels.div(size, rounding_mode="floor"), pixels % size
    row, column = inner.div(width - 4, rounding_mode="floor") + 2, inner % (width - 4) + 2
    where = (view * height + row) * width + column
    flat, far = keys.flatten(), where.new_tensor([i * width + j for i, j in steps])
    return flat[where[:, None] + far]


def _slope(
    values: Tensor,  # (..., H, W)
    axis: int,
) -> Tensor:
    """Return the change from pixel to pixel, towards the neighbour that is more alike: the same surface's, at edges."""
    ahead = values.diff(dim=axis)
    edge = torch.full_like(values.narrow(axis, 0, 1), math.inf)
    before, after = torch.cat([edge, ahead], axis), torch.cat([ahead, edge], axis)
    return torch.where(before.abs() < after.abs(), before, after)
