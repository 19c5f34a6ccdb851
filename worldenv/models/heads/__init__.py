"""Heads: what networks beside the transformer read off frames. A new one is a file here and a line in both tables."""

from .depth import DepthConfig, DepthHead
from .display import DisplayConfig, DisplayHead
from .event import EventConfig, EventHead
from .object import ObjectConfig, ObjectHead
from .registry import EVENTS, HEADS, READ, HeadConfigs, make_heads

__all__ = [
    "EVENTS",
    "HEADS",
    "READ",
    "DepthConfig",
    "DepthHead",
    "DisplayConfig",
    "DisplayHead",
    "EventConfig",
    "EventHead",
    "HeadConfigs",
    "ObjectConfig",
    "ObjectHead",
    "make_heads",
]
