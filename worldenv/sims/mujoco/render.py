"""Pictures of the table by casting rays: colour, exact depth and segmentation at once, on any machine, without OpenGL.

MuJoCo intersects rays with geoms; what is hit is lit by a lamp and by the camera, and the lamp casts shadows. The ray
through a pixel's centre decides its depth and segmentation; where neighbours show something else, three more soften the
edge. What does not move in an episode is cast once for a camera that does not either, so that a frame costs the rays of
the pixels that moving things may cover.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ...geometry.camera import pixel_rays
from .scene import MOVING, SEGMENTS, STILL, Array, Scene, load_mujoco

LAMP = np.array([-0.25, 0.45, 1.1])
"""Where the lamp hangs, in the table's frame."""
AMBIENT, FROM_CAMERA, FROM_LAMP = 0.34, 0.22, 0.55
SKY = np.array([0.42, 0.47, 0.52], np.float32)
SPREAD = np.array([(0.0, 0.0), (0.0, -0.36), (0.312, 0.18), (-0.312, 0.18)])
"""Where in a pixel its rays go, from the centre, in pixels."""
FAR = 20.0
CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
_CAPSULE, _CYLINDER, _BOX = 3, 5, 6  # values of mjtGeom; comparing arrays with its members is slow
_TABLE = 1 + SEGMENTS.index("table")


class Picture(NamedTuple):
    """What a camera sees."""

    frame: Array  # (H, W, 3) uint8
    depth: Array  # (H, W) float32, metres along z; 0 where nothing is
    segmentation: Array  # (H, W) uint8


class Layer(NamedTuple):
    """What the rays of a picture have hit: R rays for each of P pixels."""

    away: Array  # (P, R) along z; FAR where nothing is
    colour: Array  # (P, R, 3) float32, without the lamp
    lit: Array  # (P, R, 3) float32, what the lamp adds
    geom: Array  # (P,) of the first ray, -1 where nothing is
    points: Array  # (P, 3) where that ray has hit
    mean_colour: Array  # (P, 3)
    mean_lit: Array  # (P, 3)


class Hits(NamedTuple):
    """What some rays have hit in front of what was there."""

    front: Array  # (N,) bool: which rays
    away: Array  # (M,)
    geom: Array  # (M,)
    points: Array  # (M, 3)
    colour: Array  # (M, 3)
    lit: Array  # (M, 3)


class Camera:
    """Casts the rays of one pinhole camera."""

    def __init__(self, K: Tensor, *, width: int, height: int) -> None:
        self.K, self.width, self.height = K.double().numpy(), width, height
        rays = pixel_rays(K.double(), width=width, height=height).reshape(-1, 1, 3).numpy()
        nudge = np.concatenate([SPREAD / [self.K[0, 0], self.K[1, 1]], np.zeros((len(SPREAD), 1))], 1)
        self.rays = rays + nudge  # (P, R, 3), depth 1
        self.lengths = np.linalg.norm(self.rays, axis=-1)
        self.blank = self._blank()

    def still(self, view: View) -> Layer:
        """Cast what does not move, for ``shoot``."""
        layer = self.blank._replace(**{name: getattr(self.blank, name).copy() for name in Layer._fields})
        for ray in range(len(SPREAD)):
            hits = self._cast(view, np.arange(len(self.rays)), ray, layer.away[:, ray], (STILL,))
            layer.away[hits.front, ray], layer.colour[hits.front, ray] = hits.away, hits.colour
            layer.lit[hits.front, ray] = hits.lit
            if ray == 0:
                layer.geom[hits.front], layer.points[hits.front] = hits.geom, hits.points
        return layer._replace(mean_colour=layer.colour.mean(1), mean_lit=layer.lit.mean(1))

    def shoot(self, view: View, still: Layer | None = None) -> Picture:
        """Take a picture; ``still`` is of a camera that has not moved since."""
        groups = (STILL, MOVING) if still is None else (MOVING,)
        if still is None:
            below, pixels = self.blank, np.arange(len(self.rays))
        else:
            below, pixels = still, self._covered(view)
        away, geom, points = below.away[:, 0].copy(), below.geom.copy(), below.points.copy()
        colour, lit = below.mean_colour.copy(), below.mean_lit.copy()
        hits = self._cast(view, pixels, 0, away[pixels], groups)
        front = pixels[hits.front]
        away[front], geom[front], points[front], colour[front], lit[front] = hits[1:]
        segment = np.where(geom >= 0, view.scene.segments[geom], 0).astype(np.uint8)
        self._soften(view, below, pixels[self._rim(segment)[pixels]], groups, (colour, lit))
        colour += lit * self._lamp(view, geom, points, lit)[:, None]
        size = (self.height, self.width)
        return Picture(
            (255 * colour.clip(0, 1) + 0.5).astype(np.uint8).reshape(*size, 3),
            np.where(segment > 0, away, 0).astype(np.float32).reshape(size),
            segment.reshape(size),
        )

    def _blank(self) -> Layer:
        shape = self.rays.shape[:2]
        colour = np.broadcast_to(SKY, (*shape, 3)).copy()
        nothing = np.zeros((*shape, 3), np.float32)
        none, nowhere = np.full(shape[0], -1), np.zeros((shape[0], 3))
        return Layer(np.full(shape, FAR), colour, nothing, none, nowhere, colour[:, 0], nothing[:, 0])

    def _covered(self, view: View) -> Array:
        """Return the pixels that moving geoms may cover: the rectangles round the corners of their bounding boxes."""
        corners = (view.corners - view.c2w[:3, 3]) @ view.c2w[:3, :3]
        mask = np.zeros((self.height, self.width), bool)
        if (corners[..., 2] < 0.01).any():
            return np.arange(mask.size)
        image = corners @ self.K.T
        image = image[..., :2] / image[..., 2:]
        low = np.floor(image.min(1) - 0.5).clip(0).astype(int)
        high = np.ceil(image.max(1) + 0.5).clip(0).astype(int)
        for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        return np.flatnonzero(mask)

    def _rim(self, segment: Array) -> Array:
        """Return the pixels beside which something else is seen, (P,) bool; elsewhere one ray is enough."""
        grid = segment.reshape(self.height, self.width)
        rim = np.zeros(grid.shape, bool)
        across, down = grid[:, 1:] != grid[:, :-1], grid[1:] != grid[:-1]
        rim[:, 1:] |= across
        rim[:, :-1] |= across
        rim[1:] |= down
        rim[:-1] |= down
        return rim.ravel()

    def _soften(
        self, view: View, below: Layer, pixels: Array, groups: tuple[int, ...], means: tuple[Array, Array]
    ) -> None:
        """Cast the other rays of some pixels, and write their means: colour and what the lamp adds, each (P, 3)."""
        count = len(SPREAD) - 1
        every, ray = np.repeat(pixels, count), np.tile(np.arange(1, count + 1), len(pixels))
        hits = self._cast(view, every, ray, below.away[every, ray], groups)
        for mean, under, over in zip(means, (below.colour, below.lit), (hits.colour, hits.lit), strict=True):
            mixed = under[every, ray]
            mixed[hits.front] = over
            mean[pixels] = (mean[pixels] + mixed.reshape(-1, count, 3).sum(1)) / (count + 1)

    def _cast(self, view: View, pixels: Array, ray: Array | int, away: Array, groups: tuple[int, ...]) -> Hits:
        """Cast one ray of each pixel (N,), and colour what lies nearer than ``away`` (N,)."""
        length = self.lengths[pixels, ray]
        directions = (self.rays[pixels, ray] / length[:, None]) @ view.c2w[:3, :3].T
        distance, geom = trace(view, view.c2w[:3, 3], directions, groups)
        found = distance / length
        front = (geom >= 0) & (found < away)
        geom, directions = geom[front], directions[front]
        points = view.c2w[:3, 3] + distance[front, None] * directions
        base = view.scene.paint[geom]
        base[geom == view.scene.object_geom] = view.tint
        table = view.scene.segments[geom] == _TABLE
        base[table] *= _checker(points[table])
        normals = surface_normals(view, geom, points)
        towards = LAMP - points
        facing = -_dot(normals, directions).clip(-1, 0)
        sunny = _dot(normals, towards).clip(0) / np.sqrt(_dot(towards, towards))
        lit = base * (FROM_LAMP * sunny).astype(np.float32)[:, None]
        base *= (AMBIENT + FROM_CAMERA * facing).astype(np.float32)[:, None]
        return Hits(front, found[front], geom, points, base, lit)

    def _lamp(self, view: View, geom: Array, points: Array, lit: Array) -> Array:
        """Return which pixels the lamp reaches, (P,) 0 or 1: what moves casts shadows on everything."""
        corners = view.corners.reshape(-1, 3)
        foot = LAMP[:2] + LAMP[2] / (LAMP[2] - corners[:, 2:]) * (corners[:, :2] - LAMP[:2])
        (x0, y0), (x1, y1) = foot.min(0), foot.max(0)
        x, y = points[:, 0], points[:, 1]
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        asked = np.flatnonzero((lit[:, 0] > 0) & (inside | view.scene.moving[geom]))
        towards = points[asked] - LAMP
        length = np.sqrt(_dot(towards, towards))
        distance, hit = trace(view, LAMP, towards / length[:, None], (MOVING,))
        lamp = np.ones(len(geom), np.float32)
        lamp[asked[(hit >= 0) & (distance < length - 0.003)]] = 0
        return lamp


class View:
    """A moment, and from where it is looked at."""

    def __init__(self, scene: Scene, data: Any, c2w: Array, tint: Array) -> None:
        self.scene, self.data, self.c2w, self.tint = scene, data, c2w, tint
        box, moving = scene.model.geom_aabb[scene.moving], scene.moving
        local = box[:, None, :3] + CORNERS * box[:, None, 3:]
        turn = data.geom_xmat[moving].reshape(-1, 3, 3)
        self.corners: Array = local @ turn.transpose(0, 2, 1) + data.geom_xpos[moving][:, None]
        """Of the boxes round the moving geoms, (G, 8, 3)."""


def trace(
    view: View,
    origin: Array,  # (3,)
    directions: Array,  # (N, 3), unit
    groups: tuple[int, ...],
) -> tuple[Array, Array]:
    """Return how far rays go until they hit a geom of these groups, (N,) float64, and which, (N,) int32, -1 is none."""
    count = len(directions)
    geom, distance = np.full(count, -1, np.int32), np.zeros(count)
    if count:
        wanted = np.zeros(6, np.uint8)
        wanted[list(groups)] = 1
        load_mujoco().mj_multiRay(
            view.scene.model, view.data, origin, directions.ravel(), wanted, 1, -1, geom, distance, count, FAR
        )
    return distance, geom


def surface_normals(
    view: View,
    geom: Array,  # (N,)
    points: Array,  # (N, 3)
) -> Array:
    """Return the outward normal of each geom at a point of its surface, (N, 3): boxes, spheres, capsules, cylinders."""
    data, model = view.data, view.scene.model
    size, kind = model.geom_size[geom], model.geom_type[geom]
    turn = data.geom_xmat[geom].reshape(-1, 3, 3)
    local = np.einsum("nij,ni->nj", turn, points - data.geom_xpos[geom])
    normals = local.copy()
    box, capsule, cylinder = (kind == k for k in (_BOX, _CAPSULE, _CYLINDER))
    share = np.abs(local[box]) / size[box]
    normals[box] = np.where(share == share.max(1, keepdims=True), np.sign(local[box]), 0)
    half = size[capsule, 1]
    normals[capsule, 2] -= local[capsule, 2].clip(-half, half)
    lid = np.abs(local[cylinder, 2]) > size[cylinder, 1] - 1e-5
    normals[cylinder] *= np.where(lid[:, None], [0, 0, 1], [1, 1, 0])
    normals /= np.sqrt(_dot(normals, normals)).clip(1e-9)[:, None]
    outward: Array = np.einsum("nij,nj->ni", turn, normals)
    return outward


def _checker(points: Array) -> Array:
    """Return the brightness of the table's squares, (N, 1)."""
    odd = np.floor(points[:, :2] / 0.05).sum(1) % 2
    return (1 - 0.16 * odd[:, None]).astype(np.float32)


def _dot(a: Array, b: Array) -> Array:
    """Return the scalar product of each row, (N,)."""
    product: Array = np.einsum("ij,ij->i", a, b)
    return product
