"""Camera paths from files: WorldPlay's JSON, nerfstudio's transforms.json and RealEstate10K's text.

All give OpenCV c2w poses and intrinsics normalised by the image size; centres are set to one half, as WorldPlay does.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .pose import invert_se3, is_rigid

DEFAULT_K = ((969.6969696969696, 0.0, 960.0), (0.0, 969.6969696969696, 540.0), (0.0, 0.0, 1.0))
"""WorldPlay's camera in pixels, used where a file gives none."""
MOST_BYTES = 2**28
"""Of a file: a path of a million poses."""
FARTHEST = 1e9
"""Metres from the origin; and the largest number that is read."""
MOST_SIDE = 2**16
"""Pixels of a side of a picture that a path was filmed with."""
LEAST_FOCAL, MOST_FOCAL = 1e-3, 1e4
"""Of what a lens has, in sizes of its picture."""
_GL_TO_CV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Trajectory:
    """A camera path, one pose per latent, the first being the start view's."""

    c2w: Tensor  # (N, 4, 4) float64
    K: Tensor  # (N, 3, 3) float64, normalised by the image size


def read_trajectory(path: Path) -> Trajectory:
    """Read a camera path, telling the format by the content.

    Raises:
        ValueError: if the file is unreadable, of no known format, or holds matrices that are no rigid poses.
    """
    try:
        if not path.is_file():
            raise ValueError("no such file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        with path.open("rb") as file:
            text = file.read(path.stat().st_size).decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{ascii(str(path)[:200])[1:-1]}: cannot be read ({why})") from None
    if not text.lstrip().startswith(("{", "[")):
        return _checked(_realestate(text, path), path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if isinstance(values, dict) and isinstance(values.get("frames"), list):
        return _checked(_nerfstudio(values, path), path)
    if isinstance(values, dict) and values and all(isinstance(v, dict) and "extrinsic" in v for v in values.values()):
        return _checked(_worldplay(values, path), path)
    raise ValueError(
        f"{path}: neither WorldPlay's JSON (numbered entries with 'extrinsic'), nerfstudio's transforms.json (with "
        "'frames') nor RealEstate10K's lines"
    )


def normalise_pixels(K: Tensor) -> Tensor:
    """Divide intrinsics in pixels (..., 3, 3) by the image size, which is twice their centre; centres become 1/2."""
    result = torch.zeros_like(K)
    result[..., 0, 0] = K[..., 0, 0] / (2 * K[..., 0, 2])
    result[..., 1, 1] = K[..., 1, 1] / (2 * K[..., 1, 2])
    result[..., :2, 2], result[..., 2, 2] = 0.5, 1.0
    return result


def _worldplay(values: dict[str, Any], path: Path) -> Trajectory:
    """Entries in the order of the file; ``extrinsic`` is c2w whatever its name says."""
    poses = [_matrix(entry["extrinsic"], f"{path}: extrinsic of entry {name}", 4) for name, entry in values.items()]
    K = [_matrix(entry.get("K", DEFAULT_K), f"{path}: K of entry {name}", 3) for name, entry in values.items()]
    return Trajectory(torch.stack(poses), normalise_pixels(torch.stack(K)))


def _nerfstudio(values: dict[str, Any], path: Path) -> Trajectory:
    """OpenGL c2w (y up, z back) and one camera for all frames or one each."""
    poses, K = [], []
    for number, frame in enumerate(values["frames"]):
        if not isinstance(frame, dict) or "transform_matrix" not in frame:
            raise ValueError(f"{path}: not nerfstudio's transforms.json (frame {number} has no transform_matrix)")
        poses.append(_matrix(frame["transform_matrix"], f"{path}: transform_matrix of frame {number}", 4))
        told = {"w": 0, "h": 0, "fl_x": 0, "fl_y": 0, **values, **frame}
        width, height, fx, fy = (_number(told[name], f"{path}: {name}") for name in ("w", "h", "fl_x", "fl_y"))
        if not fx and "camera_angle_x" in values:
            angle = _number(values["camera_angle_x"], f"{path}: camera_angle_x")
            if not 0 < angle < math.pi:
                raise ValueError(f"{path}: camera_angle_x is {angle:g}; an angle between 0 and pi")
            fx = 0.5 * width / math.tan(0.5 * angle)
        if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
            raise ValueError(f"{path}: w and h are {width:g} and {height:g}; pixels, from 1 to {MOST_SIDE}")
        K.append([[fx / width, 0, 0.5], [0, (fy or fx) / height, 0.5], [0, 0, 1]])
    if not poses:
        raise ValueError(f"{path}: frames is empty")
    return Trajectory(torch.stack(poses) @ _GL_TO_CV, torch.tensor(K, dtype=torch.float64))


def _realestate(text: str, path: Path) -> Trajectory:
    """A link, then a line per frame: time, fx fy cx cy (normalised), two zeros, w2c in three rows."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.strip().startswith("http")]
    if not lines or any(len(line) != 19 for line in lines):
        raise ValueError(f"{path}: neither JSON nor RealEstate10K's text (19 numbers a line)")
    try:
        numbers = torch.tensor([[float(x) for x in line] for line in lines], dtype=torch.float64)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    bottom = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(len(numbers), 1, 4)
    w2c = torch.cat([numbers[:, 7:].view(-1, 3, 4), bottom], 1)
    K = torch.zeros(len(numbers), 3, 3, dtype=torch.float64)
    K[:, 0, 0], K[:, 1, 1], K[:, :2, 2], K[:, 2, 2] = numbers[:, 1], numbers[:, 2], 0.5, 1.0
    return Trajectory(invert_se3(w2c), K)


def _matrix(value: Any, what: str, size: int) -> Tensor:
    """Return a matrix (size, size) of a file."""
    rows = value if isinstance(value, list | tuple) else []
    if len(rows) != size or not all(isinstance(row, list | tuple) and len(row) == size for row in rows):
        raise ValueError(f"{what} is {str(value)[:80]}; expected {size}x{size} numbers")
    return torch.tensor([[_number(number, what) for number in row] for row in rows], dtype=torch.float64)


def _number(value: Any, what: str) -> float:
    """Return a finite number of a file."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FARTHEST:
        raise ValueError(f"{what} holds {str(value)[:40]!r}; expected numbers up to {FARTHEST:g}")
    return float(value)


def _checked(trajectory: Trajectory, path: Path) -> Trajectory:
    c2w = trajectory.c2w
    bad = [] if is_rigid(c2w) else [i for i in range(len(c2w)) if not is_rigid(c2w[i])]
    if bad:
        raise ValueError(
            f"{path}: the rotation of entry {bad[0]} is not orthonormal, or its last row not 0 0 0 1; poses must be "
            "rigid c2w matrices"
        )
    if not (c2w[:, :3, 3].abs() <= FARTHEST).all():
        raise ValueError(f"{path}: a pose lies more than {FARTHEST:g} metres away")
    focal = trajectory.K[:, [0, 1], [0, 1]]
    if not ((focal > LEAST_FOCAL) & (focal < MOST_FOCAL)).all():
        low, high = float(focal.min()), float(focal.max())
        raise ValueError(
            f"{path}: focal lengths are {low:g} to {high:g} of the picture's size; they must be positive, between "
            f"{LEAST_FOCAL:g} and {MOST_FOCAL:g}"
        )
    return trajectory
