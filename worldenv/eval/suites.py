"""Suites: what ``worldenv eval SUITE`` runs on a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.log import Stopwatch, console, track
from ..engine.world import World, shared_world
from ..models.vae import to_frames, to_pixels
from .action import obedience, turn_shifts
from .demo import run_revisit
from .geometry import run_geometry
from .image import contrast_ratio, motion_ratio, psnr, ssim
from .memory import run_memory
from .report import write_report
from .revisit import PROTOCOL, make_cases


def run_action(world: World, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Turn left and right from ``num_worlds`` held-out start views, from ``first_seed`` on."""
    starts = world.require_starts()
    if first_seed + num_worlds > len(starts):
        raise ValueError(
            f"start views {first_seed}..{first_seed + num_worlds - 1} asked for, the world has {len(starts)}"
        )
    watch = Stopwatch()
    right, left = turn_shifts(world, list(range(first_seed, first_seed + num_worlds)))
    obeyed = obedience(right, left)
    seeds = starts.map_seeds[first_seed : first_seed + num_worlds].tolist()
    arms = {world.config.memory.policy: {"obeyed": obeyed, "shift_right": right, "shift_left": left}}
    write_report(
        out / "report.json", suite="action", protocol="action-v1",
        world={"name": world.config.name, "sha256": world.sha256}, seeds=seeds,
        arms=arms, timing={"seconds": watch.seconds()},
    )  # fmt: skip
    console.print(f"turns obeyed in {100 * obeyed.mean():.1f} % of {len(obeyed)} states; wrote {out / 'report.json'}")


@torch.no_grad()
def run_reconstruction(world: World, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Encode and decode the simulator's frames along the revisit paths: the VAE's ceiling on everything else."""
    cases = make_cases(world.spec, list(range(first_seed, first_seed + num_worlds)), num_chunks=4)
    vae, watch = world.vae, Stopwatch()
    made = torch.stack([
        to_frames(vae.decode(vae.encode(to_pixels(clip)[None].to(vae.latent_mean.device, vae.dtype))))[0].cpu()
        for clip in track(cases.frames, "reconstructing", total=num_worlds)
    ])  # fmt: skip
    arms = {"vae": {
        "psnr": np.asarray(psnr(made, cases.frames)),
        "ssim": np.asarray(ssim(made, cases.frames)),
        "contrast_ratio": np.asarray(contrast_ratio(made, cases.frames)),
        "motion_ratio": np.asarray(motion_ratio(made, cases.frames)),
    }}  # fmt: skip
    write_report(
        out / "report.json", suite="reconstruction", protocol=PROTOCOL,
        world={"name": world.config.name, "sha256": world.sha256}, seeds=cases.seeds, arms=arms,
        timing={"frames_per_s": made.shape[0] * made.shape[1] / watch.seconds()},
    )  # fmt: skip
    iio.imwrite(out / "reconstruction.png", sheet(cases.frames[:6, ::16], made[:6, ::16]))
    console.print("  ".join(f"{key} {value.mean():.3f}" for key, value in arms["vae"].items()))


def sheet(truth: Tensor, made: Tensor, *, scale: int = 2) -> npt.NDArray[np.uint8]:
    """Lay out clips (N, T, H, W, 3) as rows, the truth above what was made of it."""
    rows = [np.concatenate(list(clip.numpy()), 1) for pair in zip(truth, made, strict=True) for clip in pair]
    grid: npt.NDArray[np.uint8] = np.concatenate(rows).repeat(scale, 0).repeat(scale, 1)
    return grid


def _geometry(world: World, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Check the simulator that the world was learned from."""
    run_geometry(out, spec=world.spec, num_worlds=num_worlds, first_seed=first_seed)


SUITES: dict[str, Callable[..., None]] = {
    "revisit": run_revisit,
    "memory": run_memory,
    "action": run_action,
    "reconstruction": run_reconstruction,
    "geometry": _geometry,
}


def run_suite(suite: str, name: str, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Run a suite on a world and write its report."""
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r}; choose one of {', '.join(SUITES)}")
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    out.mkdir(parents=True, exist_ok=True)
    SUITES[suite](world, out, num_worlds=num_worlds, first_seed=first_seed)
