"""Arguments of ``reset``: checked, and spread over the rows, before anything changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..base.dynamics import WorldSpec

OPTIONS = ("start", "image", "prompt", "reset_mask")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse unknown reset options."""
    unknown = [key for key in options if key not in OPTIONS]
    if unknown:
        raise ValueError(f"unknown reset option {unknown[0]!r}; known are {', '.join(OPTIONS)}")


def read_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Spread ``seed`` over the rows: row i gets seed + i, or seed[i]."""
    if isinstance(seed, int | np.integer):
        wanted: list[int | None] = [int(seed) + i for i in range(num_envs)]
    elif seed is None:
        wanted = [None] * num_envs
    else:
        wanted = [None if s is None else int(s) for s in seed]
    if len(wanted) != num_envs:
        raise ValueError(f"got {len(wanted)} seeds for num_envs={num_envs}")
    if any(s is not None and s < 0 for s in wanted):
        raise ValueError(f"seeds must not be negative, got {min(s for s in wanted if s is not None)}")
    return wanted


def read_mask(mask: Any, num_envs: int, *, first: bool) -> npt.NDArray[np.bool_]:
    """Check ``options['reset_mask']``, (B,) bool; None is all rows, and the first reset must be of all rows."""
    if mask is None:
        return np.ones(num_envs, bool)
    array = np.asarray(mask)
    if array.dtype != np.bool_ or array.shape != (num_envs,):
        raise ValueError(f"reset_mask must be bool ({num_envs},), got {array.dtype} {array.shape}")
    if not array.any():
        raise ValueError("reset_mask selects no row")
    if first and not array.all():
        raise ValueError("the first reset must include every row")
    return array.copy()


def read_starts(start: Any, num_envs: int) -> list[int | None]:
    """Spread ``options['start']``: an index for all rows, or one per row, None to draw it."""
    if start is None or isinstance(start, int | np.integer):
        return [_start(start)] * num_envs
    if not isinstance(start, Sequence | np.ndarray):
        raise ValueError(f"options['start'] must be an index or one per env, got {start!r}")
    if len(start) != num_envs:
        raise ValueError(f"options['start'] has {len(start)} entries for num_envs={num_envs}")
    return [_start(s) for s in start]


def _start(start: Any) -> int | None:
    if start is None:
        return None
    if isinstance(start, bool) or not isinstance(start, int | np.integer):
        raise ValueError(f"options['start'] must be whole numbers, got {start!r}")
    return int(start)


def read_prompts(prompt: Any, num_envs: int) -> list[str | None]:
    """Spread ``options['prompt']``: a text for all rows, or one per row, None to leave it to the world."""
    rows = [prompt] * num_envs if prompt is None or isinstance(prompt, str) else prompt
    if not isinstance(rows, Sequence) or any(p is not None and not isinstance(p, str) for p in rows):
        raise ValueError(f"options['prompt'] must be a text or one per env, got {prompt!r}")
    if len(rows) != num_envs:
        raise ValueError(f"options['prompt'] has {len(rows)} entries for num_envs={num_envs}")
    return list(rows)


def read_images(image: Any, spec: WorldSpec, num_envs: int) -> Tensor | None:
    """Check ``options['image']`` and give every env one, (B, H, W, 3) uint8."""
    if image is None:
        return None
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise ValueError(f"options['image'] must be uint8 in 0..255, got {array.dtype}; multiply by 255 and cast")
    shape = (spec.height, spec.width, 3)
    if array.shape == shape:
        array = np.broadcast_to(array, (num_envs, *shape))
    if array.shape != (num_envs, *shape):
        raise ValueError(f"options['image'] has shape {array.shape}, expected {shape} or {(num_envs, *shape)}")
    return torch.from_numpy(array.copy())
