"""Arguments of ``reset``: checked, and spread over the rows, before anything changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..base.said import said
from ..dynamics.signals import check_signals
from ..dynamics.spec import WorldSpec
from ..geometry.pose import is_rigid

OPTIONS = ("start", "goal", "image", "clip", "c2w", "K", "prompt", "reset_mask")
"""Reset options of every world; a clip's other signals are named as the world takes them."""


def read_array(value: Any, what: str, *, numbers: bool = False) -> npt.NDArray[Any]:
    """Turn nested lists, an array or a tensor into an array, of ``numbers`` alone if that is asked for.

    Raises:
        ValueError: if it is none.
    """
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is {said(value)}, which is no array") from None
    if numbers and array.dtype.kind not in "biuf":
        raise ValueError(f"{what} is {said(value)}; it must be numbers")
    return array


def read_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return reset options; a ValueError if they are no dictionary of names."""
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"options={str(options)[:80]!r}; pass a dictionary")
    wrong = [key for key in options or {} if not isinstance(key, str)]
    if wrong:
        raise ValueError(f"options has the key {str(wrong[0])[:80]!r}; names are texts")
    return dict(options or {})


def check_options(options: Mapping[str, Any], spec: WorldSpec) -> None:
    """Refuse unknown reset options."""
    known = list(dict.fromkeys([*OPTIONS, *spec.takes]))
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"unknown reset option {unknown[0]!r}; known are {', '.join(known)}")


def read_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """Spread ``seed`` over the rows: row i gets seed + i, or seed[i]."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer | Sequence | np.ndarray | None):
        raise ValueError(f"seed={seed!r}; pass a whole number, or one per env")
    if isinstance(seed, int | np.integer):
        wanted: list[int | None] = [int(seed) + i for i in range(num_envs)]
    elif seed is None:
        wanted = [None] * num_envs
    else:
        if not all(isinstance(s, int | np.integer | None) and not isinstance(s, bool) for s in seed):
            raise ValueError(f"seed={str(seed)[:80]}; seeds are whole numbers, or None")
        wanted = [None if s is None else int(s) for s in seed]
    if len(wanted) != num_envs:
        raise ValueError(f"got {len(wanted)} seeds for num_envs={num_envs}")
    if any(s is not None and s < 0 for s in wanted):
        raise ValueError(f"seeds must not be negative, got {min(s for s in wanted if s is not None)}")
    if any(s is not None and s >= 2**63 for s in wanted):
        raise ValueError(f"seeds must be below 2**63, got {max(s for s in wanted if s is not None)}")
    return wanted


def read_reseed(reseed: Any) -> list[int]:
    """Check new seeds of forks, one for each."""
    some = read_seeds(list(reseed), len(reseed)) if isinstance(reseed, Sequence | np.ndarray) else [None]
    seeds = [seed for seed in some if seed is not None]
    if len(seeds) < len(some):
        raise ValueError(f"reseed={said(reseed)}; give every fork a seed, or leave it out")
    return seeds


def read_mask(mask: Any, num_envs: int, *, first: bool) -> npt.NDArray[np.bool_]:
    """Check ``options['reset_mask']``, (B,) bool; None is all rows, and the first reset must be of all rows."""
    if mask is None:
        return np.ones(num_envs, bool)
    array = read_array(mask, "reset_mask")
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
    listed = isinstance(start, np.ndarray) and start.ndim == 1
    if isinstance(start, str) or not (listed or isinstance(start, Sequence)):
        raise ValueError(f"options['start'] must be an index or one per env, got {said(start)}")
    if len(start) != num_envs:
        raise ValueError(f"options['start'] has {len(start)} entries for num_envs={num_envs}")
    return [_start(s) for s in start]


def _start(start: Any) -> int | None:
    if start is None:
        return None
    if isinstance(start, bool) or not isinstance(start, int | np.integer):
        raise ValueError(f"options['start'] must be whole numbers, got {start!r}")
    return int(start)


def read_goals(goal: Any, num_envs: int) -> Tensor | None:
    """Check ``options['goal']``, one place for all rows or one per row, and give every env one, (B, D) float64."""
    if goal is None:
        return None
    array = read_array(goal, "options['goal']", numbers=True).astype(np.float64)
    if array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != num_envs):
        raise ValueError(f"options['goal'] has shape {array.shape}; pass one place, or one per env ({num_envs}, D)")
    if not np.isfinite(array).all():
        raise ValueError("options['goal'] holds NaN or infinity; pass metres")
    return torch.from_numpy(np.broadcast_to(array, (num_envs, array.shape[-1])).copy())


def read_prompts(prompt: Any, num_envs: int) -> list[str | None]:
    """Spread ``options['prompt']``: a text for all rows, or one per row, None to leave it to the world."""
    rows = [prompt] * num_envs if prompt is None or isinstance(prompt, str) else prompt
    if not isinstance(rows, Sequence) or any(p is not None and not isinstance(p, str) for p in rows):
        raise ValueError(f"options['prompt'] must be a text or one per env, got {type(prompt).__name__}")
    if len(rows) != num_envs:
        raise ValueError(f"options['prompt'] has {len(rows)} entries for num_envs={num_envs}")
    return list(rows)


def read_clip(options: Mapping[str, Any], spec: WorldSpec, num_envs: int) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Check ``options['clip']`` with what led to its frames (``c2w`` and ``K`` of a camera), and give every env one.

    Returns:
        Frames (B, T, H, W, 3) uint8, and signals by name, (B, F, ...) at every fourth; None without a clip.
    """
    described = [name for name in ("K", "c2w", *spec.takes) if options.get(name) is not None]
    if options.get("clip") is None:
        if described:
            raise ValueError(f"options[{described[0]!r}] describes options['clip'], which is missing")
        return None
    if options.get("image") is not None:
        raise ValueError("options hold both 'image' and 'clip'; an episode begins with one of them")
    frames, shape = read_array(options["clip"], "options['clip']"), (spec.height, spec.width, 3)
    if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-3:] != shape:
        raise ValueError(
            f"options['clip'] is {frames.dtype} {frames.shape}, expected uint8 (T, {spec.height}, {spec.width}, 3) or "
            "one per env"
        )
    if spec.has_camera and options.get("c2w") is None:
        raise ValueError(
            "options['clip'] needs options['c2w']: camera to world, (T, 4, 4), metres, of every frame or every fourth"
        )
    frames = _one_each(frames, 4, "clip", num_envs)
    signals = {
        name: _read_signal(options[name], name, spec, num_envs)
        for name in spec.takes
        if name in described and name != "c2w"
    }
    if options.get("c2w") is not None:
        signals["c2w"] = _read_poses(options, spec, num_envs)
    for name, signal in signals.items():
        if signal.shape[1] == frames.shape[1]:
            signals[name] = signal[:, :: spec.frames_per_latent]
    return torch.from_numpy(frames), signals


def _read_signal(value: Any, name: str, spec: WorldSpec, num_envs: int) -> Tensor:
    """Check a signal of a clip, (F, ...) or one per env; return (B, F, ...)."""
    declared = spec.takes[name]
    array = read_array(value, f"options[{name!r}]", numbers=True)
    wanted = len(declared.shape) + 1
    if array.shape[array.ndim - len(declared.shape) :] != declared.shape or array.ndim not in (wanted, wanted + 1):
        raise ValueError(
            f"options[{name!r}] has shape {array.shape}, expected (F, {', '.join(map(str, declared.shape))})"
        )
    tensor = torch.from_numpy(_one_each(array, wanted, name, num_envs))
    check_signals({name: tensor}, {name: declared}, what="options", lead=tuple(tensor.shape[:2]))
    return tensor.to(getattr(torch, declared.dtype))


def _read_poses(options: Mapping[str, Any], spec: WorldSpec, num_envs: int) -> Tensor:
    """Check ``c2w`` and ``K`` of a clip; return poses (B, F, 4, 4) float64."""
    c2w = read_array(options["c2w"], "options['c2w']", numbers=True).astype(np.float64)
    if c2w.shape[-2:] != (4, 4) or c2w.ndim not in (3, 4):
        raise ValueError(f"options['c2w'] has shape {c2w.shape}, expected (T, 4, 4), or one per env")
    if not is_rigid(torch.from_numpy(c2w)):
        raise ValueError("options['c2w'] holds poses that are no rigid motions (NaN, or a rotation that is none)")
    if options.get("K") is not None:
        K = read_array(options["K"], "options['K']", numbers=True)
        if K.shape != (3, 3) or not np.allclose(K, spec.K.numpy(), rtol=0.02, atol=0.5):
            raise ValueError(f"options['K'] is {K.tolist()}, this world's camera is {spec.K.tolist()}")
    return torch.from_numpy(_one_each(c2w, 3, "c2w", num_envs))


def _one_each(array: npt.NDArray[Any], ndim: int, name: str, num_envs: int) -> npt.NDArray[Any]:
    """Give every env one, of an array of ``ndim`` axes or one per env, (B, ...)."""
    if array.ndim > ndim and len(array) != num_envs:
        raise ValueError(f"options[{name!r}] has shape {array.shape}: {len(array)} of them for num_envs={num_envs}")
    return np.broadcast_to(array, (num_envs, *array.shape[-ndim:])).copy()


def read_images(image: Any, spec: WorldSpec, num_envs: int) -> Tensor | None:
    """Check ``options['image']`` and give every env one, (B, H, W, 3) uint8."""
    if image is None:
        return None
    array = read_array(image, "options['image']")
    if array.dtype != np.uint8:
        raise ValueError(f"options['image'] must be uint8 in 0..255, got {array.dtype}; multiply by 255 and cast")
    shape = (spec.height, spec.width, 3)
    if array.shape == shape:
        array = np.broadcast_to(array, (num_envs, *shape))
    if array.shape != (num_envs, *shape):
        raise ValueError(f"options['image'] has shape {array.shape}, expected {shape} or {(num_envs, *shape)}")
    return torch.from_numpy(array.copy())
