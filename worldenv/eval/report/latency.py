"""How long something took, as reports say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 95th percentile in milliseconds, as reports name them."""
    p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95])
    return {"latency_ms_p50": round(float(p50), 1), "latency_ms_p95": round(float(p95), 1)}
