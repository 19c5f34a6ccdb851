"""What the checkpoint of a run says beside its tensors: of which run it is, and how far that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...base.config import Signed


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, as its checkpoint says."""

    step: int
    """Steps that were taken."""
    hours: float
    """Hours that they took."""
    ema_updates: int
    """Updates of the average."""
    skipped: int = 0
    """Steps that were left out."""
    best_step: int = 0
    """Step of the best evaluation, if there was one."""
    best_score: Signed[float] = -math.inf
    """What it scored."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a checkpoint says of its run."""

    run: dict[str, Any]
    """Its configuration."""
    progress: Progress
    """How far it is."""
