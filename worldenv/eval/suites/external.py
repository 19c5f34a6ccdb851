"""Someone else's model in the same table: cases handed out as files, clips or dynamics scored like our own."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from ...base.arrays import read_npz
from ...base.config import difference, from_dict, to_dict
from ...base.documents import is_format, read_json
from ...base.files import save_arrays, save_text
from ...base.lock import in_use
from ...base.log import console
from ...base.media import save_picture
from ...base.objects import import_object
from ...base.rng import derive_seed
from ...dynamics.protocol import Dynamics, Resumable
from ...dynamics.spec import WorldSpec
from ...sims.doom.presets import MAZES
from .arms import Progress
from .cases import KINDS, PROTOCOL, Cases, make_cases, protocol_of
from .evaluate import run_foreign
from .registry import RUNS, Suite, suite_cases

FORMAT = 1
"""Version of manifests."""
MOST_CHUNKS = 10_000
"""Of a case."""
MOST_BYTES = 2**24
"""Of a clip that is read to say in which way it is another than was asked for."""


def write_cases(name: str, out: Path, *, num_worlds: int | None, first_seed: int | None, maze: str = "classic") -> None:
    """Write the cases of a suite in mazes of this name: ``manifest.json`` and a folder each.

    A folder holds ``start.png``, ``path.npz`` (``keys`` (F, 2) WorldPlay's codes and ``c2w`` (F, 4, 4) OpenCV, metres,
    of every latent of 4 frames; ``c2w_start``; ``K`` in pixels) and ``truth.npz`` (``frames`` (1 + 4 F, H, W, 3) uint8,
    the start view first).
    """
    spec, suite = WorldSpec(maze=maze), _suite(name)
    cases, _ = suite_cases(suite, spec, num_worlds, first_seed)
    with in_use(out):
        listed = []
        for i, (seed, kind) in enumerate(zip(cases.seeds, cases.kinds, strict=True)):
            folder = out / f"{seed}-{kind}"
            save_picture(folder / "start.png", cases.frames[i, 0].numpy())
            path = {"keys": cases.keys[i], "c2w": cases.c2w[i], "c2w_start": cases.start_c2w[i], "K": spec.K}
            save_arrays(folder / "path.npz", {name: part.numpy() for name, part in path.items()})
            save_arrays(folder / "truth.npz", {"frames": cases.frames[i].numpy()}, compressed=True)
            listed.append({"id": folder.name, "seed": seed, "path": kind, "num_frames": int(cases.frames.shape[1])})
        manifest = {
            "format": FORMAT,
            "suite": name,
            "protocol": protocol_of(spec),
            "chunks": suite.chunks,
            "spec": to_dict(spec),
            "cases": listed,
        }
        save_text(out / "manifest.json", json.dumps(manifest, indent=1))
    console.print(
        f"wrote {len(listed)} cases to {out}; make a clip of {listed[0]['num_frames']} frames for each, the start view "
        f"first, as <id>.npz (frames) or <id>.mp4, and score them with eval {name} --videos DIR --manifest "
        f"{out / 'manifest.json'}"
    )


@dataclass(frozen=True)
class Manifest:
    """The cases of a suite, as a manifest lists them."""

    spec: WorldSpec
    chunks: int
    seeds: list[int]
    kinds: list[str]


def parse_manifest(path: Path, name: str) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: if it is no manifest of this suite and protocol; the message names the field.
    """
    remedy = f"write one with worldenv bench-data {name}"
    values = read_json(path)
    found = values if isinstance(values, dict) else {}
    lacking = [key for key in ("format", "suite", "protocol", "chunks", "cases") if key not in found]
    if lacking:
        raise ValueError(f"{path}: no manifest of cases, it has no {lacking[0]!r}; {remedy}")
    if not is_format(found["format"], FORMAT):
        raise ValueError(f"{path}: format is {found['format']!r}, this version reads {FORMAT}")
    told = from_dict(WorldSpec, _table(found.get("spec", {})), where=f"{path}: spec")
    spec = WorldSpec(maze=told.maze)
    if told.maze not in MAZES:
        raise ValueError(f"{path}: spec.maze is {told.maze!r}; choose one of {', '.join(MAZES)}")
    changed = difference(to_dict(spec), to_dict(told))
    if changed is not None:
        raise ValueError(f"{path}: spec.{changed} is another than that of the suite's cases; {remedy}")
    if (found["suite"], found["protocol"]) != (name, protocol_of(spec)):
        raise ValueError(
            f"{path}: suite and protocol {found['suite']!r}, {found['protocol']!r}; this version scores {name!r}, "
            f"{protocol_of(spec)!r}"
        )
    if type(found["chunks"]) is not int or not 1 <= found["chunks"] <= MOST_CHUNKS:
        raise ValueError(f"{path}: chunks is {found['chunks']!r}; whole numbers from 1 to {MOST_CHUNKS} are")
    listed = found["cases"]
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: cases is {str(listed)[:80]!r}, not a list of cases; {remedy}")
    for number, case in enumerate(listed):
        seed, kind = (case.get(key) if isinstance(case, dict) else None for key in ("seed", "path"))
        if type(seed) is not int or not 0 <= seed < 2**31 or kind not in KINDS:
            raise ValueError(
                f"{path}: cases[{number}] has seed {seed!r} and path {kind!r}; a seed is a whole number below 2**31, a "
                f"path one of {', '.join(KINDS)}"
            )
    pairs = [(case["seed"], case["path"]) for case in listed]
    if len(set(pairs)) < len(pairs):
        raise ValueError(f"{path}: cases lists some twice; {remedy}")
    return Manifest(spec, found["chunks"], [seed for seed, _ in pairs], [kind for _, kind in pairs])


def _table(value: Any) -> Any:
    return value if isinstance(value, dict) else {"": value}


def read_manifest(path: Path, name: str) -> tuple[Cases, WorldSpec]:
    """Make the cases of a manifest once more; return also what they look like from outside.

    Raises:
        ValueError: if it is no manifest of this suite and protocol.
    """
    told = parse_manifest(path, name)
    return make_cases(told.spec, told.seeds, told.kinds, told.chunks, depth=_suite(name).depth), told.spec


def _suite(name: str) -> Suite:
    if name not in RUNS:
        raise ValueError(f"suite {name!r} has no cases to hand out; choose one of {', '.join(RUNS)}")
    return RUNS[name]


def score_videos(name: str, folder: Path, manifest: Path | None, out: Path, *, weights: Path | None = None) -> None:
    """Score clips made elsewhere for a suite's cases, beside the controls."""
    if manifest is None:
        raise ValueError("--videos needs --manifest, the manifest.json that worldenv bench-data wrote")
    cases, spec = read_manifest(manifest, name)
    clips = dict(zip(_names(cases), read_videos(folder, cases), strict=True))

    def show(cases: Cases, progress: Progress) -> Tensor:
        return torch.stack([clips[case] for case in _names(cases)])

    with in_use(out):
        run_foreign(name, folder.resolve().name, show, cases, out, spec=spec, weights=weights)


def score_dynamics(
    name: str, dynamics: str, out: Path, *, num_worlds: int | None, first_seed: int | None, weights: Path | None = None
) -> None:
    """Step any ``Dynamics`` along a suite's cases and score it beside the controls."""
    make, spec = import_object(dynamics, what="dynamics"), WorldSpec()
    if not callable(make):
        raise ValueError(f"dynamics {dynamics!r} is {type(make).__name__}, not a class; pass package.module:Class")
    cases, _ = suite_cases(_suite(name), spec, num_worlds, first_seed)

    def show(cases: Cases, progress: Progress) -> Tensor:
        return run_dynamics(make(len(cases), spec=spec), cases, progress)

    with in_use(out):
        run_foreign(name, dynamics.rpartition(":")[2], show, cases, out, spec=spec, weights=weights)


def _names(cases: Cases) -> list[str]:
    return [f"{seed}-{kind}" for seed, kind in zip(cases.seeds, cases.kinds, strict=True)]


def read_videos(folder: Path, cases: Cases) -> Tensor:
    """Read the clips made for some cases, (B, T, H, W, 3) uint8.

    Raises:
        ValueError: naming every clip that is missing or of another shape.
    """
    wanted, clips, wrong = tuple(cases.frames.shape[1:]), [], []
    for name in _names(cases):
        files = [folder / f"{name}{suffix}" for suffix in (".npz", ".mp4") if (folder / f"{name}{suffix}").is_file()]
        if not files:
            wrong.append(f"no {name}.npz or .mp4")
            continue
        frames = _read_clip(files[0], wanted)
        if frames.shape != wanted or frames.dtype != np.uint8:
            wrong.append(f"{files[0].name}: {frames.dtype} {frames.shape}, expected uint8 {wanted}")
        clips.append(frames)
    if wrong:
        raise ValueError(
            f"{folder}: {'; '.join(wrong[:5])}" + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        )
    return torch.from_numpy(np.stack(clips))


def _read_clip(path: Path, wanted: tuple[int, ...]) -> Any:
    """Read a clip, as far as it can be of the size that is wanted."""
    if path.suffix == ".npz":
        return read_npz(path, "frames", most=max(MOST_BYTES, math.prod(wanted)))
    frames = []
    try:
        for frame in iio.imiter(path):
            frames.append(frame)
            if frame.shape != wanted[1:] or len(frames) > wanted[0]:
                break
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: no readable clip ({' '.join(str(error).split())[:200]})") from None
    return np.stack(frames) if frames else np.empty((0,), np.uint8)


def run_dynamics(dynamics: Dynamics, cases: Cases, progress: Progress) -> Tensor:
    """Step any ``Dynamics`` along the cases; (B, 1 + T, H, W, 3) uint8.

    It goes on from the start views and poses if it can (``Resumable``), else it is reset with the map seeds as starts.
    """
    batch, seeds = len(cases), [derive_seed(PROTOCOL, seed) for seed in cases.seeds]
    if isinstance(dynamics, Resumable):
        first = dynamics.resume(cases.frames[:, :1], {"c2w": cases.start_c2w[:, None]}, seeds=seeds)
    else:
        first = dynamics.reset(seeds=seeds, starts=list(cases.seeds))
    if first.frames.shape[0] != batch or tuple(first.frames.shape[2:]) != tuple(cases.frames.shape[2:]):
        raise ValueError(f"reset returned frames {tuple(first.frames.shape)}, expected {batch} rows of the cases' size")
    frames = [first.frames[:, -1:]]
    for actions in cases.actions(dynamics.spec.chunk_latents):
        began = time.perf_counter()
        frames.append(dynamics.step(actions).frames)
        progress.chunk(time.perf_counter() - began)
    return torch.cat(frames, 1)
