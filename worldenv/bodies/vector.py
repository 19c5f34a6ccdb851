"""The body of a recorded environment: its own action space, embedded as one vector per latent.

What is discrete is embedded one-hot, what is a number normalised with the recording's statistics, so that 0 everywhere
is an ordinary action of a Box and none of the discrete ones: what leads to a start view.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ..dynamics.environment import UNBOUNDED, ActionPart
from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec

ACTION = "action"
"""Name of the signal."""
Action: TypeAlias = Tensor | Mapping[str, Tensor]
"""A batch of actions, (B, ...), or a dictionary of them."""
Array = npt.NDArray[Any]


def describe_actions(space: spaces.Space[Any]) -> tuple[ActionPart, ...]:
    """Return an action space part by part.

    Raises:
        ValueError: naming a space that cannot be embedded in a fixed number of numbers.
    """
    if not isinstance(space, spaces.Dict):
        return (_describe(space, ""),)
    if not space.spaces:
        raise ValueError("actions of an empty Dict command nothing; wrap the environment to have some")
    return tuple(_describe(part, name) for name, part in space.spaces.items())


def _describe(space: spaces.Space[Any], name: str) -> ActionPart:
    if isinstance(space, spaces.Discrete):
        return ActionPart(name=name, kind="discrete", counts=(int(space.n),), least=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        counts, least = (tuple(map(int, np.ravel(part))) for part in (space.nvec, space.start))
        return ActionPart(
            name=name,
            kind="multi_discrete",
            shape=space.nvec.shape,
            counts=counts,
            least=least,
            dtype=str(space.dtype),
        )
    if isinstance(space, spaces.MultiBinary):
        return ActionPart(name=name, kind="multi_binary", shape=tuple(space.shape), dtype=str(space.dtype))
    if isinstance(space, spaces.Box):
        low, high = (
            tuple(np.clip(bound.astype(np.float64), -UNBOUNDED, UNBOUNDED).ravel().tolist())
            for bound in (space.low, space.high)
        )
        return ActionPart(name=name, kind="box", shape=space.shape, low=low, high=high, dtype=str(space.dtype))
    where = f" under {name!r}" if name else ""
    raise ValueError(
        f"actions of {space}{where} cannot be embedded in a fixed number of numbers; wrap the environment to take "
        "Discrete, MultiDiscrete, MultiBinary or Box, or a Dict of these"
    )


def make_space(parts: Sequence[ActionPart]) -> spaces.Space[Any]:
    """Return the space that ``describe_actions`` described."""
    made = {part.name: _make(part) for part in parts}
    return made[""] if "" in made else spaces.Dict(made)


def _make(part: ActionPart) -> spaces.Space[Any]:
    kind: Any = np.dtype(part.dtype).type
    if part.kind == "discrete":
        return spaces.Discrete(part.counts[0], start=part.least[0])
    if part.kind == "multi_discrete":
        counts, least = (np.reshape(x, part.shape) for x in (part.counts, part.least))
        return spaces.MultiDiscrete(counts, dtype=kind, start=least)
    if part.kind == "multi_binary":
        return spaces.MultiBinary(part.shape[0] if len(part.shape) == 1 else part.shape)
    low, high = (np.reshape(x, part.shape) for x in (part.low, part.high))
    if np.issubdtype(kind, np.floating):
        low, high = np.where(low <= -UNBOUNDED, -np.inf, low), np.where(high >= UNBOUNDED, np.inf, high)
    return spaces.Box(low.astype(kind), high.astype(kind), part.shape, kind)


def embed(
    parts: Sequence[ActionPart],
    action: Action,  # (B, ...), or a dictionary of such
) -> Tensor:
    """Return actions as vectors, (B, A) float32: one-hot, and normalised where there are statistics."""
    whole = action if isinstance(action, Mapping) else {"": action}
    return torch.cat([_embed(part, whole[part.name]) for part in parts], 1)


def _embed(part: ActionPart, values: Tensor) -> Tensor:
    flat = values.reshape(len(values), math.prod(part.shape))
    if part.counts:
        chosen = flat.long() - torch.tensor(part.least)
        return torch.cat([F.one_hot(chosen[:, i], count) for i, count in enumerate(part.counts)], 1).float()
    flat = flat.float()
    if part.kind == "multi_binary" or not part.scale:
        return flat
    return (flat - torch.tensor(part.mean)) / torch.tensor(part.scale)


def unembed(
    parts: Sequence[ActionPart],
    vector: Array,  # (A,)
) -> Any:
    """Return the action that a vector embeds: what an environment of these parts is stepped with."""
    sizes = np.cumsum([part.size for part in parts])[:-1]
    found = {part.name: _unembed(part, x) for part, x in zip(parts, np.split(vector, sizes), strict=True)}
    return found.get("", found)


def _unembed(part: ActionPart, values: Array) -> Any:
    kind = np.dtype(part.dtype)
    if part.counts:
        ends = np.cumsum(part.counts)[:-1]
        chosen = np.array([int(one.argmax()) for one in np.split(values, ends)]) + np.array(part.least)
        return int(chosen[0]) if part.kind == "discrete" else chosen.reshape(part.shape).astype(kind)
    if part.kind == "multi_binary":
        return (values > 0.5).reshape(part.shape).astype(kind)
    if part.scale:
        values = values * np.asarray(part.scale) + np.asarray(part.mean)
    values = np.clip(values, part.low, part.high).reshape(part.shape)
    return values.astype(kind) if np.issubdtype(kind, np.floating) else values.round().astype(kind)


def with_statistics(parts: Sequence[ActionPart], vectors: Iterable[Array]) -> tuple[ActionPart, ...]:
    """Return parts that normalise a Box by the mean and the deviation of recorded vectors, each (N, A), not normalised.

    A number that never changed is divided by 1.
    """
    whole = np.concatenate([np.asarray(x, np.float64) for x in vectors])
    made, first = [], 0
    for part in parts:
        some = whole[:, first : first + part.size]
        first += part.size
        if part.kind == "box":
            deviation = some.std(0)
            scale = np.where(deviation < 1e-6, 1.0, deviation)
            part = replace(part, mean=tuple(some.mean(0).tolist()), scale=tuple(scale.tolist()))
        made.append(part)
    return tuple(made)


def normalise(
    parts: Sequence[ActionPart],
    vectors: Array,  # (F, A) as recorded
) -> Array:
    """Return recorded vectors as ``embed`` makes them."""
    mean, scale = np.zeros(vectors.shape[-1]), np.ones(vectors.shape[-1])
    first = 0
    for part in parts:
        if part.scale:
            mean[first : first + part.size], scale[first : first + part.size] = part.mean, part.scale
        first += part.size
    return ((vectors - mean) / scale).astype(np.float32)


class Vector:
    """Does what was done in the recorded environment: one action of its own space, held for a chunk."""

    modes: ClassVar[tuple[str, ...]] = ("vector",)

    def __init__(self, parts: Sequence[ActionPart]) -> None:
        self.parts = tuple(parts)
        self.takes: Mapping[str, Signal] = {ACTION: action_signal(self.parts)}

    @classmethod
    def for_spec(cls, spec: WorldSpec) -> Vector:
        """Make the body of the environment that a world was recorded from.

        Raises:
            ValueError: if it was recorded from none.
        """
        if spec.environment is None:
            raise ValueError("body 'vector' acts in a world that was recorded from an environment, and this was not")
        return cls(spec.environment.actions)

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the recorded environment's action space."""
        return make_space(self.parts)

    def command(self, action: Action, mode: str, present: Signals, spec: WorldSpec) -> Track:
        """Return the embedded action for every latent of the chunk."""
        return Track({ACTION: embed(self.parts, action)[:, None].expand(-1, spec.chunk_latents, -1)})

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        """Return nothing: which key means what is the environment's business."""
        return {}


def action_signal(parts: Sequence[ActionPart]) -> Signal:
    """Return what a world of these actions takes."""
    return Signal(shape=(sum(part.size for part in parts),))
