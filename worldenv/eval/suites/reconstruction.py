"""Suite ``reconstruction``: what the VAE alone makes of the simulator's frames, the ceiling on everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...base.log import Stopwatch, console, track
from ...base.media import save_picture
from ...sims.doom.sim import TEST_SEEDS
from ...training.augment import round_trip
from ...world.world import World
from ..image import contrast_ratio, motion_ratio, psnr, ssim
from ..report.document import write_report
from ..report.pictures import sheet
from .cases import make_cases, protocol_of


def run_reconstruction(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Encode and decode the simulator's frames along the revisit paths: the VAE's ceiling on everything else."""
    first, count = TEST_SEEDS.start if first_seed is None else first_seed, num_worlds or 64
    cases = make_cases(world.spec, list(range(first, first + count)), ["out_and_back"] * count, 8)
    watch = Stopwatch()
    made = torch.stack([round_trip(world.vae, clip) for clip in track(cases.frames, "reconstructing", total=count)])
    arms = {
        "vae": {
            "psnr": np.asarray(psnr(made, cases.frames)),
            "ssim": np.asarray(ssim(made, cases.frames)),
            "contrast_ratio": np.asarray(contrast_ratio(made, cases.frames)),
            "motion_ratio": np.asarray(motion_ratio(made, cases.frames)),
        }
    }
    write_report(
        out / "report.json",
        suite="reconstruction",
        protocol=protocol_of(world.spec),
        world=world.identity(),
        seeds=cases.seeds,
        arms=arms,
        timing={"frames_per_s": made.shape[0] * made.shape[1] / watch.seconds()},
    )
    save_picture(out / "reconstruction.png", sheet(cases.frames[:6, ::16], made[:6, ::16]))
    console.print("  ".join(f"{key} {value.mean():.3f}" for key, value in arms["vae"].items()))
