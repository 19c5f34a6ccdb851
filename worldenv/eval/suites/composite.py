"""One figure for how good a world is while it trains: what a distillation is stopped early by.

Distribution matching has no loss that tells when to stop, and pooled PSNR punishes the sharpness that it gives; so
fidelity on known ground, obedience, contrast, motion and the distance of distributions count together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from ...base.log import console
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...memory.config import num_slots
from ...world.world import World
from ..frechet import frechet_distance
from ..image import Array
from ..motion import PoseEstimator
from .arms import Progress, WorldArm
from .cases import KINDS, Cases, make_cases
from .score import Judge

UNITS = {
    "seen_psnr": 0.7,
    "return_psnr_gt": 0.7,
    "action_score": 0.05,
    "frechet_pose_features": -0.01,
    "contrast_error": -0.05,
    "motion_error": -0.05,
}
"""How much of each counts as one; errors count against a world."""
MAY_LOSE = 0.7
"""Decibels that a student may lose to its parent; one that loses more scores below all that do not."""
FIRST_SEED = 950_000
"""First of the mazes, which no suite has and no world is trained on."""
NUM_WORLDS = 16
NUM_CHUNKS = 12


def composite(world: World, parent: Path | None = None) -> dict[str, float]:
    """Step a world along a few paths; return what was measured and its ``score``, the mean in units: higher is better.

    With the world it was made from also ``lost_db``, the more of what it loses of both PSNRs, and a score of less than
    0 if that is too much; not where one is stepped with a rolling window and the other is not, which costs more by
    itself.

    Raises:
        ImportError: if the simulator is not installed.
    """
    figures = measured(world)
    score = float(np.mean([value / UNITS[name] for name, value in figures.items()]))
    if parent is None or _parent(parent).config.sampler.rolling != world.config.sampler.rolling:
        return {**figures, "score": score}
    before = _of_parent(parent)
    lost = max(before[name] - figures[name] for name in ("seen_psnr", "return_psnr_gt"))
    return {**figures, "lost_db": lost, "score": score if lost <= MAY_LOSE else -lost}


@cache
def _parent(folder: Path) -> World:
    return World.from_pretrained(folder, dtype="auto")


@cache
def _of_parent(folder: Path) -> dict[str, float]:
    return measured(_parent(folder))


def measured(world: World) -> dict[str, float]:
    """Step a world along the paths, not guided by renders, which would hide what it knows; return what counts of it."""
    world.vae.to(world.dit.patch_embedding.weight.device)
    window = FRAMES_PER_LATENT * num_slots(world.config.memory, world.spec.chunk_latents)
    cases, judge, truth = _prepared(world.spec, window)
    scores = judge(WorldArm(world, world.unguided())(cases, Progress()), cases)
    found = {name: float(np.nanmean(values)) for name, values in scores.metrics.items()}
    found |= {f"{kind}_error": abs(1 - found[f"{kind}_ratio"]) for kind in ("contrast", "motion")}
    found |= {name: frechet_distance(_flat(made), _flat(truth[name])) for name, made in scores.features.items()}
    return {name: found[name] for name in UNITS if name in found}


@cache
def _prepared(spec: WorldSpec, window_frames: int) -> tuple[Cases, Judge, dict[str, Array]]:
    """Return the cases, what measures them, and the features of the truth."""
    seeds = list(range(FIRST_SEED, FIRST_SEED + NUM_WORLDS))
    cases = make_cases(spec, seeds, [KINDS[i % len(KINDS)] for i in range(NUM_WORLDS)], NUM_CHUNKS, depth=True)
    judge = Judge(spec, window_frames, ssim_step=FRAMES_PER_LATENT)
    try:
        judge = replace(judge, estimator=PoseEstimator.load(spec=spec, quick=True))
    except ValueError as error:  # then without obedience and distance
        console.print(f"score without camera motion: {error}")
    return cases, judge, judge(cases.frames, cases).features


def _flat(features: Array) -> Array:
    return features.reshape(-1, features.shape[-1])
