"""Push the object over the table onto the mark; the reward is the potential gained, plus 1 when it lies there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from .base import Defaults, TaskState
from .manipulate import Manipulate, lies


@dataclass(frozen=True, kw_only=True)
class HandPush(Manipulate):
    """Move the object without carrying it: done when it lies still on the mark; once lifted, it never counts."""

    defaults: ClassVar[Defaults] = replace(Manipulate.defaults, simulator="hand/mark")

    within: float = 0.04
    """Metres between its centre and the mark's."""
    carried: float = 0.02
    """Metres above where it stood from which on it counts as lifted."""

    def done(self, state: TaskState, thing: Tensor, speed: Tensor, touched: Tensor) -> Tensor:
        """Return which objects were pushed onto their marks, (B,) bool."""
        return lies(state, thing, speed, within=self.within) & (state["highest"] < state["rest"] + self.carried)
