"""Someone else's model in the same table: cases handed out as files, clips or dynamics scored like our own."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from ..base.config import to_dict
from ..base.dynamics import Actions, Dynamics, WorldSpec
from ..base.log import console, track
from ..base.rng import derive_seed
from .revisit import PROTOCOL, Cases, make_cases

NUM_CHUNKS = 6
"""Chunks out, and as many back, of suite ``revisit``."""


def write_cases(out: Path, spec: WorldSpec, *, num_worlds: int, first_seed: int) -> None:
    """Write the cases of suite ``revisit``: ``manifest.json`` and a folder each.

    A folder holds ``start.png``, ``path.npz`` (``keys`` (F, 2) WorldPlay's codes and ``c2w`` (F, 4, 4) OpenCV, metres,
    of every latent of 4 frames; ``c2w_start``; ``K`` in pixels) and ``truth.npz`` (``frames`` (1 + 4 F, H, W, 3) uint8,
    the start view first).
    """
    cases = make_cases(spec, list(range(first_seed, first_seed + num_worlds)), NUM_CHUNKS)
    listed = []
    for i, seed in enumerate(cases.seeds):
        folder = out / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        iio.imwrite(folder / "start.png", cases.frames[i, 0].numpy())
        np.savez(
            folder / "path.npz", keys=cases.keys[i].numpy(), c2w=cases.c2w[i].numpy(),
            c2w_start=cases.start_c2w[i].numpy(), K=spec.K.numpy(),
        )  # fmt: skip
        np.savez_compressed(folder / "truth.npz", frames=cases.frames[i].numpy())
        listed.append({"id": str(seed), "seed": seed, "num_frames": int(cases.frames.shape[1])})
    manifest = {"format": 1, "suite": "revisit", "protocol": PROTOCOL, "spec": to_dict(spec), "cases": listed}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    console.print(
        f"wrote {len(listed)} cases to {out}; make a clip of {listed[0]['num_frames']} frames for each, the start view "
        "first, as <id>.npz (frames) or <id>.mp4, and score them with eval revisit --videos DIR --manifest "
        f"{out / 'manifest.json'}"
    )


def read_manifest(path: Path) -> list[int]:
    """Return the map seeds of a manifest's cases.

    Raises:
        ValueError: if it is no manifest of this suite and protocol.
    """
    try:
        values = json.loads(path.read_text())
        found = values["suite"], values["protocol"]
        seeds = [int(case["seed"]) for case in values["cases"]]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no manifest of cases ({error}); write one with worldenv bench-data revisit"
        ) from None
    if found != ("revisit", PROTOCOL):
        raise ValueError(f"{path}: suite and protocol {found}, this version scores {('revisit', PROTOCOL)}")
    return seeds


def read_videos(folder: Path, cases: Cases) -> Tensor:
    """Read the clips made for some cases, (B, T, H, W, 3) uint8.

    Raises:
        ValueError: naming every clip that is missing or of another shape.
    """
    wanted, clips, wrong = tuple(cases.frames.shape[1:]), [], []
    for seed in cases.seeds:
        files = [folder / f"{seed}{suffix}" for suffix in (".npz", ".mp4") if (folder / f"{seed}{suffix}").is_file()]
        if not files:
            wrong.append(f"{seed}: no {seed}.npz or .mp4")
            continue
        frames = _read_clip(files[0])
        if frames.shape != wanted or frames.dtype != np.uint8:
            wrong.append(f"{files[0].name}: {frames.dtype} {frames.shape}, expected uint8 {wanted}")
        clips.append(frames)
    if wrong:
        raise ValueError(
            f"{folder}: {'; '.join(wrong[:5])}" + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        )
    return torch.from_numpy(np.stack(clips))


def _read_clip(path: Path) -> Any:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return file["frames"]
        return iio.imread(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no readable clip ({error})") from None


def load_dynamics(name: str) -> Callable[..., Dynamics]:
    """Import ``package.module:Class``.

    Raises:
        ValueError: if there is no such class.
    """
    module, _, attribute = name.partition(":")
    try:
        made: Callable[..., Dynamics] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"dynamics {name!r}: {error}; pass package.module:Class") from None
    return made


def run_dynamics(dynamics: Dynamics, cases: Cases) -> Tensor:
    """Step any ``Dynamics`` along the cases; (B, 1 + T, H, W, 3) uint8.

    It is reset with the suite's seeds, the map seeds as starts, and, if its ``reset`` takes them, the start views and
    poses as ``images`` and ``c2w``.
    """
    batch, chunk = len(cases.seeds), dynamics.spec.chunk_latents
    given = {"images": cases.frames[:, 0], "c2w": cases.start_c2w}
    takes = inspect.signature(dynamics.reset).parameters
    first = dynamics.reset(
        seeds=[derive_seed(PROTOCOL, seed) for seed in cases.seeds], starts=list(cases.seeds),
        **{key: value for key, value in given.items() if key in takes},
    )  # fmt: skip
    if first.frames.shape[0] != batch or tuple(first.frames.shape[2:]) != tuple(cases.frames.shape[2:]):
        raise ValueError(f"reset returned frames {tuple(first.frames.shape)}, expected {batch} rows of the cases' size")
    frames = [first.frames[:, -1:]]
    pieces = list(zip(cases.keys.split(chunk, 1), cases.c2w.split(chunk, 1), strict=True))
    for keys, c2w in track(pieces, type(dynamics).__name__, total=len(pieces)):
        frames.append(dynamics.step(Actions(keys, c2w)).frames)
    return torch.cat(frames, 1)


def compare(first: Path, second: Path) -> None:
    """Print two reports side by side: what both measured, with intervals, and which differ beyond them."""
    from rich.table import Table

    a, b = (json.loads((p / "report.json" if p.is_dir() else p).read_text()) for p in (first, second))
    if (a["suite"], a["protocol"]) != (b["suite"], b["protocol"]):
        raise ValueError(f"{first} is {a['suite']} {a['protocol']}, {second} is {b['suite']} {b['protocol']}")
    table = Table("arm", "metric", str(first), str(second), "", title=f"{a['suite']}, {a['protocol']}")
    for arm in (x for x in a["arms"] if x in b["arms"]):
        for metric in (x for x in a["arms"][arm] if x in b["arms"][arm]):
            x, y = a["arms"][arm][metric], b["arms"][arm][metric]
            apart = x["ci95"][1] < y["ci95"][0] or y["ci95"][1] < x["ci95"][0]
            cells = [f"{v['mean']:.3g} [{v['ci95'][0]:.3g}, {v['ci95'][1]:.3g}]" for v in (x, y)]
            table.add_row(arm, metric, *cells, ("higher" if y["mean"] > x["mean"] else "lower") if apart else "")
    same = a["seeds"] == b["seeds"]
    console.print(table)
    console.print("the same cases" if same else "other cases: compare means with care")
