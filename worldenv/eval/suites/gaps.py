"""Classes of gaps: is what was shown once forgotten after 4 chunks, after 16, after 64?

``_gap4`` is up to 4 chunks, ``_gap16`` 5 to 16, ``_gap64`` 17 to 64, and ``_far`` all gaps beyond the memory's recent
window.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..image import Array

GAPS = (4, 16, 64)
"""Upper ends, in chunks, of the classes of gaps."""


@dataclass(frozen=True)
class Returns:
    """How long ago the pose of each frame was shown first."""

    gap: npt.NDArray[np.int64]  # (B, T) frames, 0 on new ground
    chunk_frames: int
    window_frames: int

    def split(
        self,
        name: str,
        values: Array,  # (B, n), NaN where a frame has none
        *,
        at: slice = slice(None),  # which frames those are
    ) -> dict[str, Array]:
        """Average over the frames that return, and over those of each class of gaps; each (B,)."""
        gap = self.gap[:, at]
        classes = {"": gap > 0, "_far": gap > self.window_frames}
        for low, high in itertools.pairwise((0, *GAPS)):
            classes[f"_gap{high}"] = (gap > low * self.chunk_frames) & (gap <= high * self.chunk_frames)
        return {name + suffix: mean_where(values, chosen) for suffix, chosen in classes.items()}


def gaps(
    first: Tensor,  # (B, T) the earliest frame with the same pose, -1 on new ground
) -> npt.NDArray[np.int64]:
    """Return the frames since the first pass, 0 on new ground; (B, T)."""
    earliest = first.numpy()
    return np.where(earliest >= 0, np.arange(earliest.shape[1]) - earliest, 0)


def mean_where(
    values: Array,  # (B, n), NaN counts for nothing
    chosen: npt.NDArray[np.bool_],  # (B, n)
) -> Array:
    """Average over the chosen frames, NaN where there are none; (B,)."""
    chosen = chosen & ~np.isnan(values)
    count = chosen.sum(1)
    total = np.where(chosen, values, 0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
