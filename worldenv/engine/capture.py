"""A chunk as CUDA graphs: recorded once, then launched as a whole on inputs that are copied into place.

Few envs leave a GPU waiting for Python, which launches some hundred kernels per denoising step. One graph goes from
staged inputs to latents (and recorded keys and values), one from a latent to frames, so that the first are shown while
the others are decoded. Retrieval, partial resets, prompts and actions are the contents of inputs, so that a recording
stays valid when they change.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2
"""Runs before a recording, in which libraries choose algorithms and kernels are compiled."""
Run = Callable[[], Any]
Record = Callable[[Run], Run]
"""Runs something and returns what does the same again; its outputs are overwritten by the next run."""


def run_eagerly(function: Callable[..., Any], *inputs: Any, key: Hashable = None) -> Any:
    """Do what a ``Recorder`` does, without recording."""
    return function(*inputs)


class Recorder:
    """Calls functions of tensors by replaying recordings, one for each function and the shapes of its inputs.

    Inputs are tensors in tuples, lists, dictionaries and dataclasses; their other contents are fixed in a recording.
    Whatever else a function reads or writes must stay where it is: with another ``key``, recordings are made anew.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._keys: dict[str, Hashable] = {}
        self._recordings: dict[tuple[str, Hashable], _Recording] = {}

    def __call__(self, function: Callable[..., Any], *inputs: Any, key: Hashable = None) -> Any:
        """Return function(*inputs), which must be tensors of the device."""
        name = function.__qualname__  # not the function: a recording needs its engine no longer
        if self._keys.setdefault(name, key) != key:
            self._keys[name] = key
            self._recordings = {where: kept for where, kept in self._recordings.items() if where[0] != name}
        where = name, tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves(inputs))
        with torch.inference_mode(False), torch.no_grad():  # buffers serve inside and outside of inference mode
            if where not in self._recordings:
                self._recordings[where] = _Recording(self._record, function, inputs)
            return self._recordings[where].replay(inputs)

    def __len__(self) -> int:
        return len(self._recordings)


class _Recording:
    def __init__(self, record: Record, function: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        own = map_tensors(torch.clone, inputs)
        self._own = [x for x in leaves(own) if isinstance(x, Tensor)]
        self._last = [_mark(x) for x in leaves(inputs) if isinstance(x, Tensor)]
        self._replay = record(lambda: function(*own))

    def replay(self, inputs: tuple[Any, ...]) -> Any:
        given = [x for x in leaves(inputs) if isinstance(x, Tensor)]
        for own, new, (last, version) in zip(self._own, given, self._last, strict=True):
            if version is None or last() is not new or new._version != version:  # a prompt's keys seldom change
                own.copy_(new)
        self._last = [_mark(x) for x in given]
        return map_tensors(torch.clone, self._replay())


def _mark(x: Tensor) -> tuple[weakref.ref[Tensor], int | None]:
    """Remember a tensor and its contents; those of inference mode do not tell when they change."""
    return weakref.ref(x), None if x.is_inference() else x._version


def graph_recorder(device: torch.device) -> Record:
    """Return what records CUDA graphs on a device."""

    def record(run: Run) -> Run:
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                outputs = run()

        def replay() -> Any:
            with torch.cuda.device(device):
                graph.replay()
            return outputs

        return replay

    return record


def leaves(value: Any) -> Iterator[Any]:
    """Yield what tuples, lists, dictionaries and dataclasses hold, from left to right."""
    if isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from leaves(getattr(value, item.name))
    else:
        yield value


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return the same tuples, lists, dictionaries and dataclasses with other tensors in them."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return type(value)({name: map_tensors(function, part) for name, part in value.items()})
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(function, part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(function, getattr(value, f.name)) for f in fields(value)})
    return value
