"""What pushes the disc: three numbers, held for a chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from slide_sim import PUSH
from torch import Tensor

from worldenv.dynamics.signals import Signal, Signals, Track
from worldenv.dynamics.spec import WorldSpec


class Pusher:
    """A body with one continuous action mode."""

    takes: ClassVar[Mapping[str, Signal]] = {"push": PUSH}
    modes: ClassVar[tuple[str, ...]] = ("push",)

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        return spaces.Box(-1.0, 1.0, PUSH.shape, np.float32)

    def command(self, action: Tensor, mode: str, present: Signals, spec: WorldSpec) -> Track:
        return Track(push=action[:, None].expand(-1, spec.chunk_latents, -1).float())

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        return {}
