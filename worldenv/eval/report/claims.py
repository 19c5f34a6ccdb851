"""Claims about arms, and their verdicts: paired by training seed and case, by the rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..image import Array
from ..suites.run import ArmResult
from ..suites.score import LOWER_IS_BETTER
from .statistics import LEAST_SEEDS, Estimate, crossed_means, equivalent, holm, mean_figure, p_value, verdict

PRIMARY = "return_psnr_gt_far"
"""What a claim stands or falls with, where nothing else was fixed."""
SECONDARY = ("return_psnr_self_far", "seen_psnr", "ssim", "action_score")
"""What else a better arm has more of; their p-values are corrected for their number."""
DISTRIBUTION = (
    "frechet_pose_features",
    "frechet_pose_features_unseen",
    "frechet_pose_features_late",
    "frechet_pose_features_drift",
    "contrast_error_unseen",
    "contrast_error_late",
    "contrast_drift_size",
    "sharpness_drift_size",
)
"""What a better arm has less of where nobody can know the truth (``figures``): PSNR rewards blur there."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is claimed of arms, and what decides it."""

    claims: tuple[tuple[str, str], ...]
    """Pairs of arms, the better one first."""
    primary: str = PRIMARY
    """Metric that a claim stands or falls with."""
    secondary: tuple[str, ...] = SECONDARY
    """Further metrics; their p-values are corrected for their number."""
    margin: float = 0.0
    """Difference in the primary metric within which two arms count as equal; 0 does not ask."""

    def judge(self, results: Mapping[str, ArmResult], maps: Sequence[int]) -> dict[str, Any]:
        """Judge every claim metric by metric; ``results`` by ARM@SEED, ``maps`` the map seed of each case.

        Differences count in the direction that was claimed: above 0 the first arm is better.
        """
        verdicts: dict[str, Any] = {}
        for better, worse in self.claims:
            seeds = [s for s in _seeds(results, better) if s in _seeds(results, worse)]
            pairs = {s: (results[f"{better}@{s}"], results[f"{worse}@{s}"]) for s in seeds}
            gains = {
                metric: {s: _gain(metric, *pair) for s, pair in pairs.items()}
                for metric in dict.fromkeys((self.primary, *self.secondary))
                if pairs and all(_has(arm, metric) for pair in pairs.values() for arm in pair)
            }
            judged = {metric: _judged(values, maps) for metric, values in gains.items()}
            for metric, p in holm({m: said["p"] for m, said in judged.items() if m != self.primary}).items():
                judged[metric]["p"] = round(p, 5)
            if self.margin and self.primary in gains:
                same = len(seeds) >= LEAST_SEEDS and equivalent(_pooled(gains[self.primary], maps)[1], self.margin)
                judged[self.primary]["equivalent"] = {"margin": self.margin, "shown": same}
            verdicts[f"{better} - {worse}"] = judged
        return verdicts


def _seeds(results: Mapping[str, ArmResult], arm: str) -> list[str]:
    return [key.partition("@")[2] for key in results if key.partition("@")[0] == arm]


def _has(arm: ArmResult, metric: str) -> bool:
    return metric in arm.metrics or (metric in arm.figures and arm.figures[metric].draws is not None)


def _gain(metric: str, better: ArmResult, worse: ArmResult) -> Array | Estimate:
    """Return by how much the first arm is better: case by case, (N,), or the arm as a whole."""
    if metric in better.figures:
        return worse.figures[metric] - better.figures[metric]
    difference: Array = better.metrics[metric] - worse.metrics[metric]
    return -difference if metric in LOWER_IS_BETTER else difference


def _pooled(gains: Mapping[str, Array | Estimate], maps: Sequence[int]) -> tuple[float, Array]:
    """Put the seeds together: the mean gain, and what it is over resampled training seeds and maps."""
    figures = [gain for gain in gains.values() if isinstance(gain, Estimate)]
    if figures:
        whole = mean_figure(figures)
        return whole.value, whole.spread()
    values, count = np.concatenate([gain for gain in gains.values() if not isinstance(gain, Estimate)]), len(gains)
    there = ~np.isnan(values)
    groups = np.repeat(np.arange(count), len(maps)), np.tile(np.asarray(maps), count)
    return float(values[there].mean()), crossed_means(values[there], [group[there] for group in groups])


def _judged(gains: Mapping[str, Array | Estimate], maps: Sequence[int]) -> dict[str, Any]:
    value, draws = _pooled(gains, maps)
    seeds = {seed: _pooled({seed: gain}, maps) for seed, gain in gains.items()}
    said, why = verdict(draws, [mean for mean, _ in seeds.values()])
    return {
        **_summary(value, draws),
        "verdict": said,
        "why": why,
        "p": round(p_value(draws), 5),
        "seeds": {seed: _summary(*one) for seed, one in seeds.items()},
    }


def _summary(value: float, draws: Array) -> dict[str, Any]:
    return {"mean": round(value, 4), "ci95": [round(float(x), 4) for x in np.percentile(draws, [2.5, 97.5])]}
