"""``worldenv export --points --splats --view``: what a walk through a world has shown, as things in space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.files import check_place
from ..base.log import console, track
from ..base.media import save_picture
from ..base.ply import save_ply
from ..bodies.camera import press
from ..engine.engine import Engine
from ..geometry.camera import intrinsics
from ..geometry.cloud import PointCloud, agreed, lift, thin
from ..geometry.gaussians import Gaussians, draw
from ..geometry.pose import look, yaw_pitch
from ..geometry.pose_string import parse_pose_string
from ..models.codec import to_pixels
from ..world.world import World, shared_world

WALK = "w-4, right-4, left-8, right-4, w-8, right-4, left-8, right-4, w-4"
"""A walk of eight seconds that looks around twice, mostly at what the start view shows."""
REACH = 8.0
"""Metres beyond which depth is not taken."""
TOLERANCE = 0.15
"""Share of a distance within which two views agree on it: the depth head's own error."""
VOXEL = 0.08
"""Metres to a side of the cubes that keep a point each."""
SURE = 0.25
"""Metres of expected error at which a point is half transparent."""
COMMENTS = (
    "made by worldenv: generated frames, their depth head, realised poses",
    "axes of a camera (OpenCV): x right, y DOWN, z forward; metres; upright walls stand along y",
)
PLY, PICTURES = (".ply",), (".png", ".jpg", ".jpeg")
BAND0 = 0.28209479177387814
"""The zeroth spherical harmonic, in units of which viewers of splats keep colours."""


@dataclass(frozen=True)
class Seen:
    """What a walk has shown at the end of each latent, the start view first."""

    frames: Tensor  # (S, H, W, 3) uint8
    depth: Tensor  # (S, H, W) metres along z
    error: Tensor  # (S, H, W) its standard error as a share of it
    c2w: Tensor  # (S, 4, 4) where the camera got to
    K: Tensor  # (3, 3) pixels

    def cloud(self) -> PointCloud:
        """Lift it into space, drop what other views look through, and keep the surest of points that are close."""
        whole = lift(self.frames, self.depth, self.error, self.c2w, self.K, reach=REACH)
        sound = agreed(whole, self.depth, self.c2w, self.K, tolerance=TOLERANCE)
        return thin(whole.select(sound), VOXEL)


def export_cloud(
    name: str, *, points: Path | None, splats: Path | None, view: Path | None, pose: str, start: int, seed: int
) -> None:
    """Walk along ``pose`` from a start view and write what was shown: points, splats, a picture from above.

    Raises:
        ValueError: on a bad pose string, a world without depth head or camera, or a file of another kind; nothing is
            written then.
        OSError: if a file cannot be written.
    """
    _check("--points", points, PLY)
    _check("--splats", splats, PLY)
    _check("--view", view, PICTURES)
    keys = parse_pose_string(pose)
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    seen = walk(world, keys, start=start, seed=seed)
    cloud = seen.cloud()
    if not len(cloud):
        raise ValueError(f"no pixel of {len(seen.frames)} views has a depth within {REACH:g} m that others agree with")
    if points is not None:
        save_ply(points, point_table(cloud), comments=COMMENTS)
    if splats is not None:
        save_ply(splats, splat_table(cloud), comments=COMMENTS)
    if view is not None:
        save_picture(view, from_above(cloud, seen.c2w[0]))
    count = seen.depth.numel()
    written = ", ".join(str(path) for path in (points, splats, view) if path is not None)
    console.print(f"{len(cloud)} points of {count} pixels in {len(seen.frames)} views; wrote {written}")


def _check(flag: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse a file before there has been a walk for nothing."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{flag} {path}: this is written as {' or '.join(suffixes)}; give the file such a suffix")
    try:
        check_place(path)
    except OSError as error:
        raise OSError(f"{flag} {error}") from None


@torch.no_grad()
def walk(
    world: World,
    keys: Tensor,  # (F, 2) int64
    *,
    start: int,
    seed: int,
) -> Seen:
    """Hold keys, latent by latent, where walls stop the body as in environments; the last chunk is filled up."""
    world.spec.require_camera("a point cloud")
    world.require_depth_head()
    engine = Engine(world, 1, walls=world.has_walls(world.config.memory))
    view = engine.reset(seeds=[seed], starts=[start])
    frames, c2w, chunk = [view.frames[0]], [engine.c2w], engine.spec.chunk_latents
    whole = torch.cat([keys, keys.new_zeros(-len(keys) % chunk, 2)])
    for held in track(whole.split(chunk), "chunks", total=len(whole) // chunk):
        made = engine.step(press(held[None], engine.c2w, engine.spec.steps))
        frames.append(made.frames[0].unflatten(0, (chunk, -1))[:, -1])
        c2w.append(made.signals["c2w"][0])
    return measured(world, torch.cat(frames), torch.cat(c2w))


@torch.no_grad()
def measured(
    world: World,
    frames: Tensor,  # (S, H, W, 3) uint8
    c2w: Tensor,  # (S, 4, 4)
) -> Seen:
    """Let the world's depth head look at frames."""
    head = world.require_depth_head()
    parts = [head(to_pixels(part).to(world.vae.latent_mean.device)) for part in frames.split(64)]
    depth, error = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
    return Seen(frames, depth, error, c2w, world.spec.K)


def point_table(cloud: PointCloud) -> npt.NDArray[Any]:
    """Return vertices with place and colour."""
    table = np.empty(len(cloud), [*((axis, "f4") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))])
    colour = (255 * cloud.colour).round().to(torch.uint8)
    _fill(table, ("x", "y", "z"), cloud.xyz)
    _fill(table, ("red", "green", "blue"), colour)
    return table


def splat_table(cloud: PointCloud) -> npt.NDArray[Any]:
    """Return vertices as viewers of 3D Gaussian splatting read them: flat discs, the less sure the more transparent."""
    numbered = {"f_dc": 3, "opacity": 0, "scale": 3, "rot": 4}
    names = ["x", "y", "z", "nx", "ny", "nz"]
    names += [f"{name}_{i}" if count else name for name, count in numbered.items() for i in range(count or 1)]
    thick = 0.2 * cloud.radius.amin(1, keepdim=True)
    columns = [
        cloud.xyz,
        cloud.normal,
        (cloud.colour - 0.5) / BAND0,
        _opacity(cloud).logit(eps=1e-4)[:, None],
        torch.cat([cloud.radius, thick], 1).log(),
        quaternion(torch.stack([cloud.across, torch.linalg.cross(cloud.normal, cloud.across), cloud.normal], -1)),
    ]
    table = np.empty(len(cloud), [(name, "f4") for name in names])
    _fill(table, tuple(names), torch.cat(columns, 1))
    return table


def _fill(table: npt.NDArray[Any], names: tuple[str, ...], values: Tensor) -> None:
    for name, column in zip(names, values.unbind(-1), strict=True):
        table[name] = column.numpy()


def _opacity(cloud: PointCloud) -> Tensor:
    return 1 / (1 + (cloud.error / SURE).square())


def quaternion(
    rotation: Tensor,  # (P, 3, 3)
) -> Tensor:
    """Return rotations as unit quaternions wxyz, (P, 4), by that of four formulas whose divisor is the largest."""
    m = rotation.unbind(-2)
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in m)
    each = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
        ],
        1,
    )
    best = each.diagonal(dim1=1, dim2=2).argmax(1)
    return torch.nn.functional.normalize(each[torch.arange(len(each)), best], dim=-1)


def from_above(
    cloud: PointCloud,
    c2w: Tensor,  # (4, 4) where the walk began
    *,
    size: tuple[int, int] = (360, 540),  # height and width
) -> npt.NDArray[np.uint8]:
    """Draw the cloud from a camera that was never in it: above and behind the start, which looks down on what came.

    Surfaces show only from the side that the walk saw of them, so ceilings and near walls hide nothing.
    """
    yaw, _ = yaw_pitch(c2w.double())
    down = torch.tensor(-math.radians(40.0), dtype=torch.float64)
    middle = c2w[:3, 3].double() + 3.5 * c2w[:3, 2].double() + torch.tensor([0.0, 0.2, 0.0], dtype=torch.float64)
    camera = look(middle, yaw + math.radians(15.0), down)
    camera[:3, 3] -= 9.0 * camera[:3, 2]
    facing = (cloud.normal * (camera[:3, 3].float() - cloud.xyz)).sum(-1) > 0
    some = cloud.select(facing)
    width = some.radius.prod(-1).sqrt()[None]
    blobs = Gaussians(some.xyz[None], some.colour[None], width, torch.ones_like(width))
    drawn = draw(blobs, camera[None], intrinsics(size[1], size[0], fov_deg=70.0), size=size, softness=0.02)
    known = drawn.cover > 0.25
    picture = torch.where(known[:, None], drawn.colour, 1.0)[0].clamp(0, 1)
    return (255 * picture).round().to(torch.uint8).movedim(0, -1).numpy()
