"""Suite ``depth``: how far a world's depth head is off, on true frames, on decoded ones and on those the world makes.

And whether views agree with one another, shown where others were by that depth (``eval.reprojection``).

Where the start view showed a point, what the world makes there should lie where the simulator has it; elsewhere the
world invents, and nobody knows how far away that is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import Stopwatch, console, track
from ...models.codec import to_pixels
from ...sims.doom.generate import generate_maze
from ...sims.doom.presets import MAZES
from ...sims.doom.raycast import cast_depth
from ...sims.doom.sim import TEST_SEEDS
from ...world.world import World
from ..image import Array
from ..report.document import write_report
from ..reprojection import reprojection
from .arms import Progress, memory_arms, vae_arm
from .cases import KINDS, STRIDE, Cases, make_cases, protocol_of
from .score import ENDS

NUM_CHUNKS = 12
BATCH = 64
"""Frames that are looked at together."""


def run_depth(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Compare the head's depth of the last frame of each latent with the simulator's.

    Raises:
        ValueError: if the world has no depth head.
    """
    world.require_depth_head()
    first, count = TEST_SEEDS.start if first_seed is None else first_seed, num_worlds or 32
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    cases = make_cases(world.spec, list(range(first, first + count)), kinds, NUM_CHUNKS, depth=True)
    truth, watch = true_depth(world, cases), Stopwatch()
    makers = {"vae": vae_arm(world), **memory_arms(world, ("worldplay_rendered", "worldplay"))}
    arms = {"simulator": depth_errors(world, cases.frames, truth, cases)}
    for name, make in makers.items():
        arms[name] = depth_errors(world, make(cases, Progress()), truth, cases)
    write_report(
        out / "report.json",
        suite="depth",
        protocol=protocol_of(world.spec),
        world=world.identity(),
        seeds=cases.seeds,
        kinds=cases.kinds,
        arms=arms,
        timing={"cases_per_s": count / watch.seconds()},
    )
    for name, metrics in arms.items():
        console.print(f"{name:>18}  " + "  ".join(f"{key} {np.nanmean(value):.3f}" for key, value in metrics.items()))


def true_depth(world: World, cases: Cases) -> Tensor:
    """Return the depth of the last frame of each latent, (B, F, H, W) metres along z."""
    spec = world.spec
    return torch.stack(
        [
            cast_depth(generate_maze(seed, MAZES[spec.maze]), path, spec.K, width=spec.width, height=spec.height)
            for seed, path in track(list(zip(cases.seeds, cases.c2w, strict=True)), "true depth", total=len(cases))
        ]
    )


@torch.no_grad()
def depth_errors(world: World, frames: Tensor, truth: Tensor, cases: Cases) -> dict[str, Array]:
    """Return relative errors of the head's depth of frames (B, T, H, W, 3) uint8: medians over pixels, each (B,).

    ``_seen`` is over points that the start view showed, ``expected`` what the head says of itself.
    """
    head, ends = world.require_depth_head(), frames[:, ENDS]
    device = head.out.weight.device
    parts = [head(to_pixels(part).to(device)) for part in ends.flatten(0, 1).split(BATCH)]
    found, error = (torch.cat(part).float().cpu().view(truth.shape) for part in zip(*parts, strict=True))
    wrong = (found - truth).abs() / truth
    some = slice(STRIDE // 2, None, STRIDE)
    agree = reprojection(ends, found, cases.c2w, world.spec.K)
    at = wrong[:, :, some, some].flatten(2)
    assert cases.seen is not None
    return {
        "depth_error": wrong.flatten(1).median(1).values.numpy(),
        "depth_error_seen": np.asarray([float(w[s].median()) for w, s in zip(at, cases.seen, strict=True)]),
        "depth_error_of_frames": (found / truth).log().flatten(2).median(2).values.abs().median(1).values.numpy(),
        "depth_error_expected": error.flatten(1).median(1).values.numpy(),
        **{name: values for name, values in agree.items() if not np.isnan(values).all()},
    }
