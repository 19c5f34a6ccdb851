"""Heads: what networks beside the transformer read off frames. A new one is a file here and a line in both tables."""

from .depth import DepthConfig, DepthHead
from .display import DisplayConfig, DisplayHead
from .registry import HEADS, HeadConfigs, make_heads

__all__ = ["HEADS", "DepthConfig", "DepthHead", "DisplayConfig", "DisplayHead", "HeadConfigs", "make_heads"]
