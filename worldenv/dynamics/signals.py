"""Signals: named tensors whose shape, type and rate are declared where they come from.

What a body commands, what a world shows and what an episode remembers are dictionaries of them, checked once against
what was declared. The camera is one among others: a world without one declares none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..base.config import Signed

Signals = Mapping[str, Tensor]
"""Named tensors, each with a leading axis of envs."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What one row of a named tensor looks like, at one moment."""

    shape: Signed[tuple[int, ...]]
    """Without the axes of envs and of time; -1 stands for the picture's height and width, in this order."""
    dtype: Literal["float32", "float64", "int64", "uint8", "bool"] = "float32"
    """Type of its numbers."""
    low: Signed[float | None] = None
    """Least value; None is no limit."""
    high: Signed[float | None] = None
    """Largest value; None is no limit."""
    rate: Literal["frame", "latent", "chunk"] = "latent"
    """How often there is one."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest value, of integers those that their type can hold."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.dtype in ("uint8", "int64"):
            kind = torch.iinfo(getattr(torch, self.dtype))
            return max(low, kind.min), min(high, kind.max)
        return (0.0, 1.0) if self.dtype == "bool" else (low, high)


KEYS = Signal(shape=(2,), dtype="int64", low=0.0, high=8.0)
"""Translation and rotation code that are held on the way to a latent (``geometry.action``)."""
C2W = Signal(shape=(4, 4), dtype="float64")
"""Camera to world at the end of a latent, metres."""
PICTURE = Signal(shape=(-1, -1, 3), dtype="uint8")
"""A frame of the world's size."""
REWARD = Signal(shape=())
"""What was earned on the way to a latent."""
TERMINATED = Signal(shape=(), dtype="bool")
"""Whether the episode ended on the way to a latent."""
DEPTH = Signal(shape=(-1, -1), low=0.0, rate="chunk")
"""What the newest view lies away, metres along z; chunks hold as many of their last views as are known."""


POSE_VIDEO = "pose_video"
"""Name under which a track of latents to come also carries those of the pose video; nobody commands or remembers it."""


class Track(dict[str, Tensor]):
    """Signals of latents in a row, each (B, F, ...): what conditions them and where they lie.

    It is indexed and joined as a whole, whatever the signals are.
    """

    def map(self, change: Callable[[Tensor], Tensor]) -> Track:
        """Return the same with every tensor changed."""
        return Track({name: change(tensor) for name, tensor in self.items()})

    def at(self, index: Any) -> Track:
        """Index every tensor in the same way: a slice of rows, or (rows, latents)."""
        return self.map(lambda tensor: tensor[index])

    def part(self, latents: slice) -> Track:
        """Return some latents of every row."""
        return self.map(lambda tensor: tensor[:, latents])

    def split(self, num_latents: int) -> list[Track]:
        """Cut into tracks of so many latents, the last of which may be shorter."""
        return [self.part(slice(i, i + num_latents)) for i in range(0, self.num_latents, num_latents)]

    def where(self, mask: Tensor, other: Track) -> Track:
        """Keep the rows of a mask (B,) bool and take the others from another track."""
        return Track({name: torch.where(wide(mask, tensor), tensor, other[name]) for name, tensor in self.items()})

    @classmethod
    def join(cls, parts: Iterable[Track]) -> Track:
        """Put tracks of equal rows one behind the other."""
        whole = list(parts)
        return cls({name: torch.cat([part[name] for part in whole], 1) for name in whole[0]})

    @property
    def num_rows(self) -> int:
        """B."""
        return len(next(iter(self.values())))

    @property
    def num_latents(self) -> int:
        """F."""
        return next(iter(self.values())).shape[1]


def wide(mask: Tensor, tensor: Tensor) -> Tensor:
    """Give a mask of rows (B,) as many axes as the tensor has."""
    return mask.view(-1, *[1] * (tensor.ndim - 1))


def check_signals(given: Signals, declared: Mapping[str, Signal], *, what: str, lead: tuple[int, ...]) -> None:
    """Refuse signals that are missing, of another shape or type, not finite, or beyond their bounds.

    Args:
        given: tensors by name; others than the declared ones are none of this check's business.
        declared: what there must be.
        what: how errors call them.
        lead: axes in front of a signal's own.

    Raises:
        ValueError: naming the first that does not fit.
    """
    for name, signal in declared.items():
        if name not in given:
            raise ValueError(f"{what} lack {name!r}; pass {', '.join(declared)}")
        tensor, shape = given[name], (*lead, *signal.shape)
        if tuple(tensor.shape) != shape or tensor.is_floating_point() != signal.dtype.startswith("float"):
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{what}: {name!r} is {found}, expected {signal.dtype} {shape}")
        low, high = signal.bounds
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{what}: {name!r} holds NaN or infinity; check where it comes from")
        if tensor.numel() and not (float(tensor.min()) >= low and float(tensor.max()) <= high):
            raise ValueError(f"{what}: {name!r} must lie within {low:g}..{high:g}")
