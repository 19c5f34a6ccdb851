"""Does a world know where it is wrong? Its uncertainty beside its true error, decision by decision, on held-out clips.

The signs are two of the kind that mmbench2 publishes as predictors of hallucination: whether a sample comes out the
same when it is drawn again, and whether an ensemble agrees. They are measured while the world continues true histories
as it was commanded; the error is of the pictures (RMS, in 1/255) and of the reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ...world.config import DoubtConfig
from ..image import Array
from ..report.statistics import Estimate

LIMIT = 0.95
"""Share of held-out chunks that are less uncertain than the limit."""


@dataclass(frozen=True)
class Doubts:
    """Of decisions of many cases, one behind the other."""

    case: npt.NDArray[np.int64]  # (N,)
    age: npt.NDArray[np.int64]  # (N,) decisions since what was true
    signals: Mapping[str, Array]  # each (N,): what uncertainty is made of
    pictures: Array  # (N,) RMS of what is wrong with the frames
    reward: Array  # (N,) what is wrong with the reward

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, Mapping[str, float], float, float]]) -> Doubts:
        """Join decisions: case, age, signals, error of the pictures and of the reward."""
        names = parts[0][2].keys() if parts else ()
        return cls(
            case=np.asarray([part[0] for part in parts]),
            age=np.asarray([part[1] for part in parts]),
            signals={name: np.asarray([part[2][name] for part in parts]) for name in names},
            pictures=np.asarray([part[3] for part in parts]),
            reward=np.asarray([part[4] for part in parts]),
        )

    def part(self, chosen: npt.NDArray[np.bool_]) -> Doubts:
        """Return some of the decisions."""
        signals = {name: part[chosen] for name, part in self.signals.items()}
        return Doubts(self.case[chosen], self.age[chosen], signals, self.pictures[chosen], self.reward[chosen])

    def measured(self) -> DoubtConfig:
        """Return how uncertainty is to be read, from what the signs are here."""
        means = {name: float(part.mean()) for name, part in self.signals.items()}
        config = DoubtConfig(**{name: mean for name, mean in means.items() if mean > 0})
        limit = float(np.quantile(self.uncertainty(config), LIMIT))
        return DoubtConfig(**{**vars(config), "limit": limit})

    def uncertainty(self, config: DoubtConfig) -> Array:
        """Return what ``engine.doubt`` makes of the signs, (N,)."""
        scales = {name: getattr(config, name) for name in self.signals}
        parts = [part / scales[name] for name, part in self.signals.items() if scales[name]]
        result: Array = np.mean(parts, 0)
        return result

    def figures(self, config: DoubtConfig, weights: Array) -> dict[str, Estimate]:
        """Return rank correlations of uncertainty with both errors, with what they are in resampled cases (K, N).

        ``same_age`` is of decisions that are as far from the truth: errors and doubts both grow with that, which alone
        would make them agree.
        """
        doubt = self.uncertainty(config)
        found = {}
        for name, error in (("pictures", self.pictures), ("reward", self.reward)):
            for suffix, groups in (("", np.zeros_like(self.age)), ("_same_age", self.age)):
                value, draws = _correlation(_ranks(doubt, groups), _ranks(error, groups), self.case, weights)
                found[f"uncertainty_{name}{suffix}"] = Estimate(value, draws, weights.shape[1])
        return found


def _ranks(values: Array, groups: npt.NDArray[np.int64]) -> Array:
    """Return the rank of each value within its group, ties shared, from -1/2 to 1/2."""
    ranks = np.zeros(len(values))
    for group in np.unique(groups):
        some = groups == group
        ordered = np.sort(values[some])
        low, high = (np.searchsorted(ordered, values[some], side=side) for side in ("left", "right"))
        ranks[some] = (low + high) / (2 * some.sum()) - 0.5
    return ranks


def _correlation(a: Array, b: Array, case: npt.NDArray[np.int64], weights: Array) -> tuple[float, Array]:
    """Return the correlation of a and b (N,), and of resampled cases (K,); NaN where one of them never changes."""
    count = weights.shape[1]
    sums = np.stack([np.bincount(case, part, count) for part in (np.ones(len(a)), a, b, a * a, b * b, a * b)], 1)

    def of(total: Array) -> Array:  # (..., 6)
        n, sa, sb, saa, sbb, sab = np.moveaxis(total, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = (sab - sa * sb / n) / np.sqrt((saa - sa**2 / n) * (sbb - sb**2 / n))
        return found

    return float(of(sums.sum(0))), of(weights @ sums)


def picture_error(
    made: Tensor,  # (B, T, H, W, 3) uint8
    truth: Tensor,  # (B, T, H, W, 3) uint8
) -> list[float]:
    """Return the RMS of each row's difference, in 1/255."""
    return (made.float() - truth.float()).square().mean((1, 2, 3, 4)).sqrt().tolist()
