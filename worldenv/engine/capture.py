"""A chunk's kernels as one CUDA graph: recorded once, then launched together on inputs that are copied into place.

Few envs leave a GPU waiting for Python, which launches some hundred kernels per denoising step. What is recorded goes
from staged inputs to latents (and recorded keys and values), or from a latent to frames. Retrieval, partial resets,
prompts and actions are the contents of inputs, so that a recording stays valid when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2
"""Runs before a recording, in which libraries choose algorithms and kernels are compiled."""
Replay = Callable[[], Any]
"""Runs what was recorded, again; returns the outputs, which the next replay overwrites."""


def run_eagerly(function: Callable[..., Any], *inputs: Any, key: Hashable = None) -> Any:
    """Do what a ``Recorder`` does, without recording."""
    return function(*inputs)


class Recorder:
    """Calls functions of tensors by replaying recordings, one for each function, key, and shapes of its inputs.

    Inputs are tensors in tuples, lists and dataclasses; their other contents are fixed in a recording. Whatever else a
    function reads or writes must stay where it is; ``key`` says which of it is meant.
    """

    def __init__(self, record: Callable[[Replay], Replay] | None = None) -> None:
        self._record = record_graph if record is None else record
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, function: Callable[..., Any], *inputs: Any, key: Hashable = None) -> Any:
        """Return function(*inputs), which must be tensors of the device."""
        signature = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves(inputs))
        where = (function, key, signature)
        if where not in self._recordings:
            self._recordings[where] = _Recording(self._record, function, inputs)
        return self._recordings[where].replay(inputs)

    def __len__(self) -> int:
        return len(self._recordings)


class _Recording:
    def __init__(self, record: Callable[[Replay], Replay], function: Callable[..., Any], inputs: tuple[Any, ...]):
        own = map_tensors(torch.clone, inputs)
        self._own = [x for x in leaves(own) if isinstance(x, Tensor)]
        self._last = [(x, x._version) for x in leaves(inputs) if isinstance(x, Tensor)]
        self._replay = record(lambda: function(*own))

    def replay(self, inputs: tuple[Any, ...]) -> Any:
        given = [(x, x._version) for x in leaves(inputs) if isinstance(x, Tensor)]
        for own, (new, version), (last, before) in zip(self._own, given, self._last, strict=True):
            if new is not last or version != before:  # a prompt's keys are large and seldom change
                own.copy_(new)
        self._last = given
        return map_tensors(torch.clone, self._replay())


def record_graph(run: Replay) -> Replay:
    """Record a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()

    def replay() -> Any:
        graph.replay()
        return outputs

    return replay


def leaves(value: Any) -> Iterator[Any]:
    """Yield what tuples, lists and dataclasses hold, from left to right."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    elif is_dataclass(value):
        for item in fields(value):
            yield from leaves(getattr(value, item.name))
    else:
        yield value


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return the same tuples, lists and dataclasses with other tensors in them."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(function, part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(function, getattr(value, f.name)) for f in fields(value)})
    return value
