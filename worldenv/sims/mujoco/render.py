"""Pictures of the table by casting rays: colour, exact depth and segmentation at once, on any machine, without OpenGL.

MuJoCo intersects rays with geoms; what is hit is lit by a lamp and by the camera, and the lamp casts shadows. The ray
through a pixel's centre decides its depth, segmentation and look; where neighbours show something else, three more rays
soften the edge. What does not move in an episode is cast once for a camera that does not either, so that a frame costs
the rays of the pixels that moving things may cover.
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
    """What the rays of a picture have hit, R for each of P pixels, and what the pixels look like."""

    away: Array  # (P, R) along z; FAR where nothing is
    segment: Array  # (P, R) uint8
    geom: Array  # (P,) of the first ray, -1 where nothing is
    points: Array  # (P, 3) where that ray has hit
    colour: Array  # (P, 3) float32, without the lamp
    lit: Array  # (P, 3) float32, what the lamp adds


class Camera:
    """Casts the rays of one pinhole camera, that stands at ``c2w`` or is carried about (None)."""

    def __init__(self, K: Tensor, *, width: int, height: int, c2w: Array | None = None) -> None:
        self.K, self.width, self.height = K.double().numpy(), width, height
        rays = pixel_rays(K.double(), width=width, height=height).reshape(-1, 1, 3).numpy()
        nudge = np.concatenate([SPREAD / [self.K[0, 0], self.K[1, 1]], np.zeros((len(SPREAD), 1))], 1)
        self.rays = rays + nudge  # (P, R, 3), depth 1
        self.lengths = np.linalg.norm(self.rays, axis=-1)
        self.directions = self.rays / self.lengths[..., None]
        if c2w is not None:
            self.directions = self.directions @ c2w[:3, :3].T
        self.stands = c2w is not None
        self.pixels = np.arange(len(self.rays))
        self.beside = self._beside()

    def still(self, view: View) -> Layer:
        """Cast what does not move, for ``shoot``."""
        return self._over(self._blank(), view, self.pixels, (STILL,), every=True)

    def shoot(self, view: View, still: Layer | None = None) -> Picture:
        """Take a picture; ``still`` is of a camera that has not moved since."""
        if still is None:
            seen = self._over(self._blank(), view, self.pixels, (STILL, MOVING))
        else:
            seen = self._over(still, view, self._covered(view), (MOVING,))
        colour = seen.colour + seen.lit * self._lamp(view, seen)[:, None]
        size, segment = (self.height, self.width), seen.segment[:, 0]
        return Picture(
            (255 * colour.clip(0, 1) + 0.5).astype(np.uint8).reshape(*size, 3),
            np.where(segment > 0, seen.away[:, 0], 0).astype(np.float32).reshape(size),
            segment.reshape(size).copy(),
        )

    def _blank(self) -> Layer:
        count, rays = self.rays.shape[:2]
        nothing = np.zeros((count, 3), np.float32)
        none = np.zeros((count, rays), np.uint8)
        return Layer(
            np.full((count, rays), FAR), none, np.full(count, -1), np.zeros((count, 3)), nothing + SKY, nothing
        )

    def _beside(self) -> Array:
        """Return each pixel and its neighbours, (P, 5), at the border itself again."""
        grid = np.pad(self.pixels.reshape(self.height, self.width), 1, mode="edge")
        around = (grid[1:-1, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:], grid[:-2, 1:-1], grid[2:, 1:-1])
        return np.stack([part.ravel() for part in around], 1)

    def _over(self, below: Layer, view: View, pixels: Array, groups: tuple[int, ...], *, every: bool = False) -> Layer:
        """Cast the geoms of some groups over what is there; ``every`` casts all rays, not only those at edges."""
        layer = Layer(*(part.copy() for part in below))
        away, segment, geom, points, colour, lit = layer
        distance, hit, directions = self._cast(view, pixels, 0, groups)
        front = (hit >= 0) & (distance / self.lengths[pixels, 0] < away[pixels, 0])
        chosen, hit, directions = pixels[front], hit[front], directions[front]
        away[chosen, 0] = distance[front] / self.lengths[chosen, 0]
        segment[chosen, 0], geom[chosen] = view.scene.segments[hit], hit
        points[chosen] = view.c2w[:3, 3] + distance[front, None] * directions
        colour[chosen], lit[chosen] = shade(view, hit, points[chosen], directions)
        edge = pixels if every else pixels[self._rim(geom, view.scene, groups)[pixels]]
        self._soften(layer, view, edge, groups)
        return layer

    def _soften(self, layer: Layer, view: View, pixels: Array, groups: tuple[int, ...]) -> None:
        """Cast the other rays of some pixels; what they hit looks as in the nearest pixel that shows it."""
        count = len(SPREAD) - 1
        many, ray = np.repeat(pixels, count), np.tile(np.arange(1, count + 1), len(pixels))
        distance, hit, _ = self._cast(view, many, ray, groups)
        found = distance / self.lengths[many, ray]
        front = (hit >= 0) & (found < layer.away[many, ray])
        layer.away[many[front], ray[front]] = found[front]
        layer.segment[many[front], ray[front]] = view.scene.segments[hit[front]]
        beside = self.beside[pixels]
        same = layer.segment[pixels, 1:, None] == layer.segment[beside, 0][:, None]
        like = np.take_along_axis(beside, same.argmax(2), 1)  # (N, R - 1); the pixel itself where none shows it
        for look in (layer.colour, layer.lit):
            look[pixels] = (look[pixels] + look[like].sum(1)) / (count + 1)

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

    def _rim(self, geom: Array, scene: Scene, groups: tuple[int, ...]) -> Array:
        """Return the pixels beside which something else of these groups is seen, (P,) bool: one ray will not do."""
        segment = np.where(geom >= 0, scene.segments[geom], 0)
        if STILL not in groups:
            segment[~scene.moving[geom]] = 0
        grid = segment.reshape(self.height, self.width)
        rim = np.zeros(grid.shape, bool)
        across, down = grid[:, 1:] != grid[:, :-1], grid[1:] != grid[:-1]
        rim[:, 1:] |= across
        rim[:, :-1] |= across
        rim[1:] |= down
        rim[:-1] |= down
        return rim.ravel()

    def _cast(self, view: View, pixels: Array, ray: Array | int, groups: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """Cast one ray of each pixel (N,): how far it goes, which geom it hits, its direction (N, 3)."""
        directions = self.directions[pixels, ray]
        if not self.stands:
            directions = directions @ view.c2w[:3, :3].T
        return *trace(view, view.c2w[:3, 3], directions, groups), directions

    def _lamp(self, view: View, seen: Layer) -> Array:
        """Return which pixels the lamp reaches, (P,) 0 or 1: what moves casts shadows on everything."""
        corners = view.corners.reshape(-1, 3)
        foot = LAMP[:2] + LAMP[2] / (LAMP[2] - corners[:, 2:]) * (corners[:, :2] - LAMP[:2])
        (x0, y0), (x1, y1) = foot.min(0), foot.max(0)
        x, y = seen.points[:, 0], seen.points[:, 1]
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        asked = np.flatnonzero((seen.lit[:, 0] > 0) & (inside | view.scene.moving[seen.geom]))
        towards = seen.points[asked] - LAMP
        length = np.sqrt(_dot(towards, towards))
        distance, hit = trace(view, LAMP, towards / length[:, None], (MOVING,))
        lamp = np.ones(len(seen.geom), np.float32)
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


def shade(
    view: View,
    geom: Array,  # (N,)
    points: Array,  # (N, 3) of their surfaces
    directions: Array,  # (N, 3) from which they are seen
) -> tuple[Array, Array]:
    """Return the colour of what is hit without the lamp, and what the lamp adds, each (N, 3) float32."""
    table = view.scene.segments[geom] == _TABLE
    base = view.scene.paint[geom]
    base[geom == view.scene.object_geom] = view.tint
    base[table] *= _checker(points[table])
    normals = np.zeros(points.shape)
    normals[table, 2], other = 1, ~table
    normals[other] = surface_normals(view, geom[other], points[other])
    towards = LAMP - points
    facing = -_dot(normals, directions).clip(-1, 0)
    sunny = _dot(normals, towards).clip(0) / np.sqrt(_dot(towards, towards))
    lit = base * (FROM_LAMP * sunny).astype(np.float32)[:, None]
    return base * (AMBIENT + FROM_CAMERA * facing).astype(np.float32)[:, None], lit


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
