"""Which heads there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .depth import DepthConfig, DepthHead
from .display import DisplayConfig, DisplayHead


@dataclass(frozen=True, kw_only=True)
class HeadConfigs:
    """Sizes of the heads that a world has."""

    depth: DepthConfig | None = None
    """Metres, and how far off they may be."""
    display: DisplayConfig | None = None
    """Large pictures, for people."""


HEADS: dict[str, Callable[[Any], nn.Module]] = {"depth": DepthHead, "display": DisplayHead}
"""Makes each head from its sizes; the names are those of ``HeadConfigs``."""


def make_heads(configs: HeadConfigs) -> dict[str, nn.Module]:
    """Make the heads that are asked for, with fresh weights."""
    wanted = {name: getattr(configs, name) for name in HEADS}
    return {name: HEADS[name](config) for name, config in wanted.items() if config is not None}
