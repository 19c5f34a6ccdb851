"""Claims about arms, and their verdicts: paired by training seed and case, by the rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .image import Array
from .run import ArmResult
from .score import LOWER_IS_BETTER
from .statistics import LEAST_SEEDS, crossed_ci, equivalent, holm, p_value, verdict

PRIMARY = "return_psnr_gt_far"
"""What a claim stands or falls with, where nothing else was fixed."""
SECONDARY = ("return_psnr_self_far", "seen_psnr", "ssim", "action_score")
"""What else a better arm has more of; their p-values are corrected for their number."""


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
        found: dict[str, Any] = {}
        for better, worse in self.claims:
            seeds = [s for s in _seeds(results, better) if s in _seeds(results, worse)]
            pairs = {s: (results[f"{better}@{s}"].metrics, results[f"{worse}@{s}"].metrics) for s in seeds}
            gains = {
                metric: {s: _gain(metric, a, b) for s, (a, b) in pairs.items()}
                for metric in dict.fromkeys((self.primary, *self.secondary))
                if pairs and all(metric in a and metric in b for a, b in pairs.values())
            }
            judged = {metric: _judged(values, maps) for metric, values in gains.items()}
            for metric, p in holm({m: said["p"] for m, said in judged.items() if m != self.primary}).items():
                judged[metric]["p"] = round(p, 5)
            if self.margin and self.primary in gains:
                enough = len(seeds) >= LEAST_SEEDS
                same = enough and equivalent(*_pooled(gains[self.primary], maps), self.margin)
                judged[self.primary]["equivalent"] = {"margin": self.margin, "shown": same}
            found[f"{better} - {worse}"] = judged
        return found


def _seeds(results: Mapping[str, ArmResult], arm: str) -> list[str]:
    return [key.partition("@")[2] for key in results if key.partition("@")[0] == arm]


def _gain(metric: str, better: Mapping[str, Array], worse: Mapping[str, Array]) -> Array:
    """Return by how much the first arm is better, case by case, (N,)."""
    difference: Array = better[metric] - worse[metric]
    return -difference if metric in LOWER_IS_BETTER else difference


def _pooled(gains: Mapping[str, Array], maps: Sequence[int]) -> tuple[Array, list[Any]]:
    """Put the seeds' cases together: the gains that there are, and the training seed and the map of each."""
    values, count = np.concatenate(list(gains.values())), len(gains)
    there = ~np.isnan(values)
    groups = np.repeat(np.arange(count), len(maps)), np.tile(np.asarray(maps), count)
    return values[there], [group[there] for group in groups]


def _judged(gains: Mapping[str, Array], maps: Sequence[int]) -> dict[str, Any]:
    values, groups = _pooled(gains, maps)
    said, why = verdict(values, *groups)
    return {
        **_summary(values, groups), "verdict": said, "why": why, "p": round(p_value(values, groups), 5),
        "seeds": {seed: _summary(*_pooled({seed: gain}, maps)) for seed, gain in gains.items()},
    }  # fmt: skip


def _summary(values: Array, groups: list[Any]) -> dict[str, Any]:
    return {
        "mean": round(float(values.mean()), 4), "ci95": [round(x, 4) for x in crossed_ci(values, groups)],
    }  # fmt: skip
