"""Which heads there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...dynamics.signals import REWARD, TERMINATED, Signal
from .depth import DepthConfig, DepthHead
from .display import DisplayConfig, DisplayHead
from .event import EventConfig, EventHead
from .object import ObjectConfig, ObjectHead


@dataclass(frozen=True, kw_only=True)
class HeadConfigs:
    """Sizes of the heads that a world has."""

    depth: DepthConfig | None = None
    """Metres, and how far off they may be."""
    display: DisplayConfig | None = None
    """Large pictures, for people."""
    reward: EventConfig | None = None
    """What was earned in a latent."""
    terminated: EventConfig | None = None
    """Whether the episode ended in it."""
    object_read: ObjectConfig | None = None
    """Where the object of a hand's table is."""


HEADS: dict[str, Callable[[Any], nn.Module]] = {
    "depth": DepthHead,
    "display": DisplayHead,
    "reward": EventHead,
    "terminated": EventHead,
    "object_read": ObjectHead,
}
"""Makes each head from its sizes; the names are those of ``HeadConfigs``."""
EVENTS: dict[str, Signal] = {"reward": REWARD, "terminated": TERMINATED}
"""Heads of what happens on the way to a latent, and what a world with them gives."""
OBJECT_READ = Signal(shape=(5,))
"""Position of the object (metres, the table's frame), its speed, and the probability that the hand touches it."""
READ: dict[str, Signal] = {**EVENTS, "object_read": OBJECT_READ}
"""All heads that look at latent after latent and remember."""


def make_heads(configs: HeadConfigs) -> dict[str, nn.Module]:
    """Make the heads that are asked for, with fresh weights."""
    wanted = {name: getattr(configs, name) for name in HEADS}
    return {name: HEADS[name](config) for name, config in wanted.items() if config is not None}
