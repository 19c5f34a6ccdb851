"""Someone else's model in the same table: cases handed out as files, clips or dynamics scored like our own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from ...base.config import to_dict
from ...base.files import save_arrays, save_text
from ...base.lock import in_use
from ...base.log import console
from ...base.media import save_picture
from ...base.objects import import_object
from ...base.rng import derive_seed
from ...dynamics.protocol import Dynamics, Resumable
from ...dynamics.spec import WorldSpec
from .arms import Progress
from .cases import PROTOCOL, Cases, make_cases, protocol_of
from .evaluate import run_foreign
from .registry import RUNS, Suite, suite_cases


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
            "format": 1,
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


def read_manifest(path: Path, name: str) -> tuple[Cases, WorldSpec]:
    """Make the cases of a manifest once more; return also what they look like from outside.

    Raises:
        ValueError: if it is no manifest of this suite and protocol.
    """
    try:
        values = json.loads(path.read_text())
        found, chunks = (values["suite"], values["protocol"]), int(values["chunks"])
        spec = WorldSpec(maze=str(values.get("spec", {}).get("maze", "classic")))
        seeds, kinds = zip(*((int(case["seed"]), str(case["path"])) for case in values["cases"]), strict=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no manifest of cases ({error}); write one with worldenv bench-data {name}") from None
    if found != (name, protocol_of(spec)):
        raise ValueError(f"{path}: suite and protocol {found}, this version scores {(name, protocol_of(spec))}")
    return make_cases(spec, list(seeds), list(kinds), chunks, depth=_suite(name).depth), spec


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
