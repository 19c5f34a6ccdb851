"""What may be wrong with a valid input: bytes, values of a tree, tensors of a file."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

Path = tuple[Any, ...]
NOT_FINITE = (math.nan, math.inf, -math.inf)
HUGE = (10**9, 2**63, 1e300, 10**30)
NEGATIVE = (-1, -7, -(10**9), -1e300)


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value of nested tables and lists that is neither, by its path."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, list) and tree:
        for i, value in enumerate(tree):
            yield from leaves(value, (*path, i))
    else:
        yield path, tree


def tables(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every table."""
    if isinstance(tree, Mapping):
        yield path
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from tables(value, (*path, key))


def put(tree: Any, path: Path, value: Any) -> Any:
    """Return a copy with another value at a path."""
    made = copy.deepcopy(tree)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def without(tree: Any, path: Path) -> Any:
    """Return a copy without what is at a path."""
    made = copy.deepcopy(tree)
    at = made
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return made


def of_another_type(value: Any) -> list[Any]:
    """Return values that are of another type; whole numbers are numbers."""
    others: list[Any] = ["x", [value], {"a": 1}, [], ""]
    if isinstance(value, bool):
        return ["x", [value], {"a": 1}, 2, 1.5]
    if isinstance(value, int):
        return [*others, 1.5, True, str(value)]
    if isinstance(value, float):
        return [*others, True, str(value)]
    if isinstance(value, str):
        return [3, 1.5, True, ["x"], {"a": 1}]
    if isinstance(value, list):
        return [3, True, {"a": 1}]
    return ["x", 3, ["x"]]


def shown(path: Path) -> str:
    """Return a path as one writes it."""
    return ".".join(map(str, path))


def cuts(data: bytes, *, least: int = 0) -> st.SearchStrategy[tuple[str, bytes]]:
    """Draw proper beginnings of some bytes, at least ``least`` bytes shorter than all."""
    return st.integers(0, len(data) - 1 - least).map(lambda n: (f"cut after {n} bytes", data[:n]))


def flips(data: bytes) -> st.SearchStrategy[tuple[str, bytes]]:
    """Draw the same bytes with some of them changed."""
    places = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), min_size=1, max_size=8)

    def flipped(some: list[tuple[int, int]]) -> tuple[str, bytes]:
        made = bytearray(data)
        for place, mask in some:
            made[place] ^= mask
        return f"flipped {some}", bytes(made)

    return places.map(flipped)


def appended(data: bytes) -> st.SearchStrategy[tuple[str, bytes]]:
    """Draw the same bytes with some more."""
    return st.binary(min_size=1, max_size=64).map(lambda more: (f"and {more!r}", data + more))


def no_file_of_its_kind() -> st.SearchStrategy[tuple[str, bytes]]:
    """Draw bytes that are no file of any kind."""
    return st.one_of(st.just(b""), st.binary(min_size=1, max_size=200).map(lambda b: b"\x00\xff" + b)).map(
        lambda data: (f"the bytes {data[:20]!r}", data)
    )


def damaged(
    data: bytes, case: Callable[[str, bool | None, bytes], Any], *, least: int = 0, longer: bool | None = False
) -> list[st.SearchStrategy[Any]]:
    """Draw damaged files: cut, changed, none at all, and longer ones.

    Args:
        data: of a valid file.
        case: makes a case: what was done, whether it must be accepted, and the file.
        least: bytes that are cut at least.
        longer: whether those must be accepted; None for files that may end with anything.
    """
    return [
        cuts(data, least=least).map(lambda made: case(made[0], False, made[1])),
        flips(data).map(lambda made: case(made[0], None, made[1])),
        appended(data).map(lambda made: case(made[0], longer, made[1])),
        no_file_of_its_kind().map(lambda made: case(made[0], False, made[1])),
    ]


def _with_last_row(pose: Tensor) -> Tensor:
    made = pose.clone()
    made[3, 0] = 0.5
    return made


NO_POSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "twice as large": lambda pose: 2 * pose,
    "mirrored": lambda pose: pose @ torch.diag(pose.new_tensor([-1, 1, 1, 1])),
    "of zeros": torch.zeros_like,
    "with another last row": _with_last_row,
    "sheared": lambda pose: pose + 0.1 * torch.ones_like(pose),
}
"""Changes of a pose (4, 4) into a matrix that is none."""


def broken_tensor(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """Return what no reader may take for a tensor: of another dtype, another shape, or not finite."""
    made = [
        ("of complex numbers", tensor.to(torch.complex64)),
        ("of flags", tensor.bool()),
        ("a row more", torch.cat([tensor, tensor[:1]]) if tensor.ndim else tensor[None]),
        ("of one axis more", tensor[None]),
        ("flat", tensor.flatten()) if tensor.ndim > 1 else ("in two axes", tensor.reshape(1, -1)),
    ]
    if tensor.is_floating_point():
        for number in NOT_FINITE:
            broken = tensor.clone()
            broken.view(-1)[-1] = number
            made.append((f"with {number}", broken))
        made.append(("of int8", tensor.to(torch.int8)))
    else:
        made.append(("of halves", tensor.half()))
    return [
        (f"{name} {what}", value.contiguous())
        for what, value in made
        if value.shape != tensor.shape or value.dtype != tensor.dtype or not torch.equal(value, tensor)
    ]
