"""Snapshots: cloned episodes as a file that another process continues."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..base.checkpoint import load_tensors, save_tensors
from ..base.documents import is_format

FORMAT = 2
"""2: what led to latents is a track of named signals."""


def save_snapshot(path: Path, identity: Mapping[str, object], state: dict[str, Tensor]) -> None:
    """Write a cloned state with what it takes to continue it."""
    save_tensors(path, state, header={"format": FORMAT, **identity})


def load_snapshot(path: Path, identity: Mapping[str, object]) -> dict[str, Tensor]:
    """Read a cloned state.

    Raises:
        ValueError: if the file is broken, or its world, format or settings are not this environment's.
    """
    state, header = load_tensors(path)
    if not is_format(header.get("format"), FORMAT):
        raise ValueError(f"{path}: state format {header.get('format')!r}, this version reads {FORMAT}")
    for name, wanted in identity.items():
        if header.get(name) != wanted:
            raise ValueError(f"{path}: saved with {name} {header.get(name)!r}, this environment has {wanted!r}")
    return state
