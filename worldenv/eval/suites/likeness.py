"""How far what the arms of ``manipulation`` show is from the truth as a distribution.

Published distances (``fid``, ``fvd``) are on weights that the user provides (``eval.learned``). What the pose network
sees (``frechet_pose_features``) does not fit here: it learned from cameras that move through mazes, and refuses frames
of another shape. What every world brings along is the encoder of its VAE: ``frechet_vae_features``, a distance of our
own, is over its latents. It is not comparable with FID or FVD, nor between worlds with different VAEs, and errors that
the encoder does not see are not in it; the row ``vae`` is what encoding and decoding cost.

All of them grow as sets shrink: ``*_halves``, of the row ``simulator``, is the distance between two halves of the true
clips, so what other clips of the same tables make, half as many. Arms share tables and commands with the truth and may
lie nearer; one that lies farther off is told from it by more than the choice of clips. Which clip is which, no such
distance knows. The first frame is true in every arm and has no part in any of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...base.device import default_dtype
from ...base.log import track
from ...models.codec import Codec, to_pixels
from ..frechet import frechet_distance
from ..image import Array
from ..learned import UsableMetric
from ..learned import score as learned_scores
from ..report.statistics import Estimate, draw_weights
from .figures import frechet_figures

FEATURES = "frechet_vae_features"
TRUTH = "simulator"
"""The arm that shows what happened."""


@dataclass(frozen=True)
class Likeness:
    """What was measured of arms against the truth."""

    metrics: dict[str, dict[str, Array]]  # (N,) each, by arm
    figures: dict[str, dict[str, Estimate]]  # of whole arms, by arm
    skipped: dict[str, str]  # what could not be measured, and why


def measure_likeness(
    vae: Codec,
    shown: Mapping[str, Tensor],  # (N, T, H, W, 3) uint8 by arm, among them the truth, ``simulator``
    seeds: list[int],
    usable: Mapping[str, UsableMetric],
) -> Likeness:
    """Measure every arm on the frames after the first, by the metrics that ``eval.learned.available`` found usable."""
    made = {arm: frames[:, 1:] for arm, frames in shown.items()}
    found = Likeness({}, {arm: {} for arm in made}, {})
    for arm, frames in track(made.items(), "comparing", total=len(made)):
        found.metrics[arm], whole, failed = learned_scores(usable, frames, made[TRUTH])
        found.figures[arm].update({name: Estimate(value) for name, value in whole.items()})
        found.skipped.update(failed)
    _add_own(found, vae, shown, seeds)
    if len(seeds) > 1:
        _add_halves(found, made[TRUTH], usable)
    return found


def _add_own(found: Likeness, vae: Codec, shown: Mapping[str, Tensor], seeds: list[int]) -> None:
    """Add the distance of our own: of every arm, with intervals over clips, and between two halves of the truth."""
    features = {arm: vae_features(vae, frames) for arm, frames in shown.items()}
    truth = features[TRUTH]
    count, latents, width = truth.shape
    if count * latents < 2:
        found.skipped[FEATURES] = f"{count * latents} latents are no distribution; evaluate more clips, or longer ones"
        return
    own = frechet_figures(features, truth, np.ones((count, latents), bool), draw_weights([np.asarray(seeds)]))
    for arm, figure in own.items():
        found.figures[arm][FEATURES] = figure
    first, second = (truth[half].reshape(-1, width) for half in _halves(count))
    if len(first) > 1:
        found.figures[TRUTH][f"{FEATURES}_halves"] = Estimate(frechet_distance(first, second))


def _add_halves(
    found: Likeness,
    truth: Tensor,  # (N, T, H, W, 3) uint8
    usable: Mapping[str, UsableMetric],
) -> None:
    """Add the published distances between two halves of the truth, or why there are none."""
    distances = {name: usable[name] for name in found.figures[TRUTH] if name in usable}
    first, second = (truth[torch.from_numpy(half)] for half in _halves(len(truth)))
    _, whole, failed = learned_scores(distances, first, second)
    found.figures[TRUTH].update({f"{name}_halves": Estimate(value) for name, value in whole.items()})
    found.skipped.update({f"{name}_halves": reason for name, reason in failed.items()})


def _halves(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw which clips are in which half: equally many, and the same every time."""
    order = np.random.default_rng(0).permutation(count)
    return order[: count // 2], order[count // 2 : count // 2 * 2]


@torch.no_grad()
def vae_features(
    vae: Codec,
    frames: Tensor,  # (N, 1 + 4 F, H, W, 3) uint8
) -> Array:
    """Describe latents for a Frechet distance, (N, F, 2 C) float64: the encoder's means, pooled over the picture.

    Mean and standard deviation of each channel over the cells, of every latent but the first, which is the first frame
    alone. A latent holds a sixth of a second of a hand's clip, so that motion is in it.
    """
    device, rows = vae.latent_mean.device, []
    with torch.autocast(device.type, torch.bfloat16, enabled=default_dtype(device) == torch.bfloat16):
        for clip in frames:
            cells = vae.encode(to_pixels(clip[None]).to(device, vae.dtype))[0, 1:].float().flatten(2)  # (F, C, h w)
            rows.append(torch.cat([cells.mean(2), cells.std(2, correction=0)], 1))
    result: Array = torch.stack(rows).double().cpu().numpy()
    return result
