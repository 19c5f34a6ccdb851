"""Heads: what networks beside the transformer read off frames. A new one is a file here and a line in both tables."""

from .depth import DepthConfig, DepthHead
from .registry import HEADS, HeadConfigs, make_heads

__all__ = ["HEADS", "DepthConfig", "DepthHead", "HeadConfigs", "make_heads"]
