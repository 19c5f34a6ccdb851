"""Camera paths from files: WorldPlay's JSON, nerfstudio's transforms.json and RealEstate10K's text.

All give OpenCV c2w poses and intrinsics normalised by the image size; centres are set to one half, as WorldPlay does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pose import invert_se3

DEFAULT_K = ((969.6969696969696, 0.0, 960.0), (0.0, 969.6969696969696, 540.0), (0.0, 0.0, 1.0))
"""WorldPlay's camera in pixels, used where a file gives none."""
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
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        return _checked(_realestate(text, path), path)
    if isinstance(values, dict) and isinstance(values.get("frames"), list):
        return _checked(_nerfstudio(values, path), path)
    if isinstance(values, dict) and values and all(isinstance(v, dict) and "extrinsic" in v for v in values.values()):
        return _checked(_worldplay(values), path)
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


def _worldplay(values: dict[str, Any]) -> Trajectory:
    """Entries in the order of the file; ``extrinsic`` is c2w whatever its name says."""
    K = [entry.get("K", DEFAULT_K) for entry in values.values()]
    return Trajectory(_matrices([entry["extrinsic"] for entry in values.values()]), normalise_pixels(_matrices(K)))


def _nerfstudio(values: dict[str, Any], path: Path) -> Trajectory:
    """OpenGL c2w (y up, z back) and one camera for all frames or one each."""
    try:
        poses = _matrices([frame["transform_matrix"] for frame in values["frames"]])
        K = []
        for frame in values["frames"]:
            width, height, fx, fy = (float(frame.get(k, values.get(k, 0))) for k in ("w", "h", "fl_x", "fl_y"))
            if not fx and "camera_angle_x" in values:
                fx = 0.5 * width / np.tan(0.5 * values["camera_angle_x"])
            K.append([[fx / width, 0, 0.5], [0, (fy or fx) / height, 0.5], [0, 0, 1]])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path}: not nerfstudio's transforms.json ({type(error).__name__}: {error})") from None
    return Trajectory(poses @ _GL_TO_CV, _matrices(K))


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


def _matrices(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _checked(trajectory: Trajectory, path: Path) -> Trajectory:
    c2w = trajectory.c2w
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or trajectory.K.shape != (len(c2w), 3, 3):
        raise ValueError(
            f"{path}: poses {tuple(c2w.shape)} and K {tuple(trajectory.K.shape)}; expected 4x4 and 3x3 each"
        )
    error = (c2w[:, :3, :3] @ c2w[:, :3, :3].mT - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    bad = [i for i in range(len(c2w)) if not error[i] < 1e-3 or not c2w[i].isfinite().all()]
    if bad:
        raise ValueError(f"{path}: the rotation of entry {bad[0]} is not orthonormal; poses must be rigid c2w matrices")
    if not (trajectory.K[:, [0, 1], [0, 1]] > 0).all():
        raise ValueError(f"{path}: focal lengths must be positive")
    return trajectory
