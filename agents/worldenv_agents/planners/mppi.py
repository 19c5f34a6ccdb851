"""Model predictive path integral control (Williams et al. 2017): act on the mean of plans, weighed by their returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sequences import Floats, Plans, Sequences


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """Model predictive path integral control."""

    temperature: float = 0.1
    """Return by which a plan has to be better to weigh e times as much."""

    def weigh(self, returns: Floats) -> Floats:
        """Weigh plans by exp(return / temperature), (N,)."""
        raised = np.exp((returns - returns.max()) / self.temperature)
        weights: Floats = raised / raised.sum()
        return weights

    def choose(self, plans: Plans, returns: Floats, sequences: Sequences) -> Plans:
        """Return the mean, or the likeliest values, of what was fitted, (H, A); it was not itself imagined."""
        return sequences.likeliest()
