"""Columns of numbers from elsewhere: checked row by row, and described as a space of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..bodies.vector import embed
from ..dynamics.environment import ActionPart
from .schema import Array

MOST_CHOICES = 512
"""Values of one number that are told apart as choices."""
MOST_WHOLE = 2**31
"""The largest whole number that stands for a choice."""
MOST_NUMBERS = 1024
"""Numbers of an action."""


def check_finite(
    values: Array,  # (rows, ...)
    *,
    what: str,
    name: str,
    whole: bool = False,
) -> None:
    """Refuse a column with a number that is none, or not ``whole`` where choices are read, by its row.

    Raises:
        ValueError: naming the row.
    """
    if values.dtype.kind != "f":
        return
    for right, says in (
        (np.isfinite(values), "it must be finite"),
        (values == np.floor(values), "choices are whole numbers"),
    ):
        if not right.all():
            row = int(np.argwhere(~right)[0, 0])
            raise ValueError(f"{what}: row {row}: {name} is {values[row]}; {says}")
        if not whole:
            return


def describe_numbers(
    recorded: Sequence[Array],  # each (rows,) or (rows, A)
    *,
    integer: bool,
    what: Any,
    name: str = "",
) -> tuple[ActionPart, ...]:
    """Return what was done as a space: choices if whole numbers, else numbers between the least and the largest.

    Raises:
        ValueError: if they are too many to be embedded, or nothing was ever done.
    """
    flat = [one.reshape(len(one), -1) for one in recorded if len(one)]
    widths = {one.shape[1] for one in flat}
    if len(widths) != 1:
        raise ValueError(
            f"{what}: actions of {sorted(widths)} numbers; every one has as many" if flat else f"{what}: no rows"
        )
    (width,) = widths
    if not 0 < width <= MOST_NUMBERS:
        raise ValueError(f"{what}: actions of {width} numbers; from 1 to {MOST_NUMBERS} can be embedded")
    low, high = (np.stack([f(one, 0) for one in flat]) for f in (np.min, np.max))
    low, high = low.min(0), high.max(0)
    if not integer:
        bounds = (tuple(x.astype(np.float64).tolist()) for x in (low, np.where(high > low, high, low + 1)))
        least, most = bounds
        return (ActionPart(name=name, kind="box", shape=(width,), low=least, high=most, dtype="float32"),)
    if low.min() < -MOST_WHOLE or high.max() > MOST_WHOLE:
        raise ValueError(f"{what}: {name or 'action'} has whole numbers from {low.min()} to {high.max()}; too large")
    counts = (high.astype(np.int64) - low.astype(np.int64) + 1).tolist()
    if max(counts) > MOST_CHOICES:
        raise ValueError(
            f"{what}: {name or 'action'} has whole numbers from {low.min()} to {high.max()}; that many choices cannot "
            "be embedded: write them with a decimal point if they are quantities"
        )
    least_of = tuple(int(x) for x in low)
    if width == 1:
        return (ActionPart(name=name, kind="discrete", counts=tuple(counts), least=least_of),)
    return (ActionPart(name=name, kind="multi_discrete", shape=(width,), counts=tuple(counts), least=least_of),)


def embedded(parts: Sequence[ActionPart], actions: Array | Mapping[str, Array]) -> Array:
    """Embed recorded actions, (rows, ...) each, as (rows, A) float32."""
    whole = actions if isinstance(actions, Mapping) else {"": actions}
    kinds = {part.name: np.int64 if part.counts else np.float64 for part in parts}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(whole[name], kind)) for name, kind in kinds.items()}
    made: Array = embed(parts, tensors).numpy()
    return made
