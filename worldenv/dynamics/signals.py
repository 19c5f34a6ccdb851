"""Signals: named tensors whose shape, type and bounds are declared where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What one row of a named tensor looks like."""

    shape: tuple[int, ...]
    """Without the batch axis."""
    dtype: Literal["float32", "float64", "int64", "uint8", "bool"] = "float32"
    """Type of its numbers."""
    low: float = -math.inf
    """Least value."""
    high: float = math.inf
    """Largest value."""
