"""Heads: small networks that read what happened off what a world shows."""

from .depth import DepthConfig, DepthHead

__all__ = ["DepthConfig", "DepthHead"]
