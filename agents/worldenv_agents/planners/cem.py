"""The cross-entropy method (Rubinstein 1999): fit to the best plans, draw again, act on the best one that was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .sequences import Floats, Plans, Sequences


@dataclass(frozen=True, kw_only=True)
class CEM:
    """Cross-entropy method."""

    elites: float = 0.25
    """Share of the plans that the next ones are drawn about."""

    def weigh(self, returns: Floats) -> Floats:
        """Weigh the elites equally and the others not, (N,)."""
        count = max(1, math.floor(self.elites * len(returns)))
        weights = np.zeros(len(returns))
        weights[np.argsort(-returns, kind="stable")[:count]] = 1 / count
        return weights

    def choose(self, plans: Plans, returns: Floats, sequences: Sequences) -> Plans:
        """Return the best plan that was imagined, (H, A)."""
        best: Plans = plans[int(returns.argmax())]
        return best
