"""Messages as bytes: msgpack maps, in which an array is a map of dtype, shape and data; nothing is ever unpickled.

What comes in is checked against the annotations of the message's class, so that an error names the field.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np

from ..base.objects import import_extra, nearest
from ..base.said import one_line, said

DTYPES = ("uint8", "int8", "int32", "int64", "float32", "float64", "bool")
"""What arrays may hold."""
ARRAY_KEYS = {"dtype", "shape", "data"}
MAX_AXES = 8
MAX_DEPTH = 16
"""Maps and lists within one another."""
MAX_PARTS = 2**18
"""Values of a message, those in arrays not counted: to hold and check one costs far more than the byte it came in."""
MAX_KEY = 64
"""Characters of the key of a map."""


class MessageError(ValueError):
    """A message that cannot be read: which field is wrong, why, and its ``id`` if that can be read, else 0."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(" ".join(f"{field}: {message}".split()))  # in one line, whatever is called so
        self.field, self.number = field, 0


@dataclass(frozen=True)
class Bounds:
    """Limits of a number, or of the length of a text or of bytes."""

    low: float = 0
    high: float = math.inf


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True, kw_only=True)
class Message:
    """What goes over the wire; its ``type`` there is its class's name in small letters.

    What derives from it is a frozen dataclass of keywords too, without being told so.
    """

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    id: Annotated[int, Bounds(0, 2**53)]
    """Of what a client asks, its own number; of an answer, the number of what it answers."""


M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Return a message as bytes; fields that are None are left out.

    Raises:
        ValueError: if it holds what does not go over the wire.
    """
    values = {name: value for name, value in vars(message).items() if value is not None}
    try:
        packed: bytes = _msgpack().packb({"type": type(message).__name__.lower(), **values}, default=_plain)
    except (TypeError, UnicodeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(message).__name__.lower()} cannot be sent: {one_line(error)}") from None
    return packed


def unpack(data: bytes | str, known: Mapping[str, type[M]]) -> M:
    """Read a message that is one of the known classes.

    Raises:
        MessageError: naming the field that is missing, unknown, of another type or out of bounds.
    """
    table = read_table(data)
    number = table.get("id")
    try:
        return _message(table, known)
    except MessageError as error:
        error.number = number if type(number) is int and 0 <= number <= 2**53 else 0
        raise


def _message(table: dict[str, Any], known: Mapping[str, type[M]]) -> M:
    name = table.pop("type", None)
    if not isinstance(name, str) or name not in known:
        near = nearest(name, known) if isinstance(name, str) and len(name) <= MAX_KEY else ""
        raise MessageError("type", f"got {said(name)}; send one of {', '.join(known)}{near}")
    kind = known[name]
    hints = _hints(kind)  # type: ignore[arg-type]
    for key in table:
        if key not in hints:
            raise MessageError(key, f"{name} has no such field; it has {', '.join(hints)}{nearest(key, hints)}")
    for one in fields(kind):
        if one.name not in table and one.default is one.default_factory is MISSING:
            raise MessageError(one.name, f"{name} lacks it")
    return kind(**{key: _checked(hints[key], value, key) for key, value in table.items()})


def read_table(data: bytes | str) -> dict[str, Any]:
    """Read a map whose keys are texts; within limits of parts, of depth, and of the length of keys."""
    if isinstance(data, str):
        raise MessageError("message", "is text; send a msgpack map as a binary frame")
    parts = 0

    def count(part: Any) -> Any:
        nonlocal parts
        parts += 1 + len(part)
        if parts > MAX_PARTS:
            raise MessageError("message", f"holds more than {MAX_PARTS} values; send arrays")
        return part

    try:
        table = _msgpack().unpackb(data, object_hook=count, list_hook=count, max_array_len=MAX_PARTS)
    except MessageError:
        raise
    except Exception as error:  # msgpack raises classes of its own, ValueError, RecursionError, UnicodeDecodeError
        raise MessageError("message", f"is no msgpack map ({type(error).__name__}: {error})") from None
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise MessageError("message", f"is {type(table).__name__}, not a map of named fields")
    _check_nesting(table)
    return table


def _check_nesting(table: dict[str, Any]) -> None:
    """Refuse what is too deep to walk through, and keys that are too long to repeat."""
    level: list[Any] = [table]
    for _ in range(MAX_DEPTH):
        for part in level:
            if isinstance(part, dict) and any(isinstance(key, str) and len(key) > MAX_KEY for key in part):
                raise MessageError("message", f"holds a key of more than {MAX_KEY} characters")
        nested = [part.values() if isinstance(part, dict) else part for part in level]
        level = [value for part in nested for value in part if isinstance(value, dict | list)]
        if not level:
            return
    raise MessageError("message", f"holds more than {MAX_DEPTH} maps and lists within one another")


def _msgpack() -> Any:
    return import_extra("msgpack", extra="play", needs="messages need msgpack")


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Return a value as its annotation says; refuse others."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        if value is None and len(options) < len(arguments):
            return None
        return _checked(options[0], value, where)
    if origin is Annotated:
        return _within(_checked(arguments[0], value, where), arguments[1], where)
    if origin is typing.Literal:
        if value not in arguments:
            raise MessageError(where, f"got {said(value)}; choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (dict, list):
        if not isinstance(value, origin) or (origin is dict and not all(isinstance(key, str) for key in value)):
            raise MessageError(where, f"expected {_called(origin)}, got {said(value)}")
        if origin is list:
            return [_checked(arguments[0], part, f"{where}[{i}]") for i, part in enumerate(value)]
        return {key: _checked(arguments[1], part, f"{where}.{key}") for key, part in value.items()}
    if hint is Any:
        return _read(value, where)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise MessageError(where, f"expected {_called(hint)}, got {said(value)}")
    return value


def _within(value: Any, bounds: Bounds, where: str) -> Any:
    """Refuse numbers, or lengths, that are out of bounds."""
    size, what = (value, "") if isinstance(value, int | float) else (len(value), "its length ")
    if value is not None and not bounds.low <= size <= bounds.high:  # NaN is out of every bound
        raise MessageError(where, f"{what}must lie within {bounds.low:g}..{bounds.high:g}, got {size}")
    return value


def _read(value: Any, where: str) -> Any:
    """Read plain values, in which maps of dtype, shape and data are arrays."""
    if isinstance(value, dict):
        if value.keys() == ARRAY_KEYS:
            return _array(value, where)
        if not all(isinstance(key, str) for key in value):
            raise MessageError(where, f"keys must be texts, got {said(value)}")
        return {key: _read(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [_read(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise MessageError(where, f"holds {type(value).__name__}; send plain values and arrays")


def _array(value: dict[str, Any], where: str) -> np.ndarray[Any, Any]:
    dtype, shape, data = value["dtype"], value["shape"], value["data"]
    if dtype not in DTYPES:
        raise MessageError(f"{where}.dtype", f"got {said(dtype)}; choose one of {', '.join(DTYPES)}")
    sizes = shape if isinstance(shape, list) and len(shape) <= MAX_AXES else [None]
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise MessageError(f"{where}.shape", f"got {said(shape)}; pass at most {MAX_AXES} sizes")
    if not isinstance(data, bytes):
        raise MessageError(f"{where}.data", f"expected bytes, got {said(data)}")
    wanted = math.prod(sizes) * np.dtype(dtype).itemsize
    if len(data) != wanted:
        raise MessageError(f"{where}.data", f"holds {len(data)} bytes, {dtype} {tuple(sizes)} takes {wanted}")
    return np.frombuffer(data, dtype).reshape(sizes)


def _plain(value: Any) -> Any:
    """Return what msgpack has no form for in one that it has; arrays are little-endian and in C order."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"dtype": value.dtype.name, "shape": list(value.shape), "data": np.ascontiguousarray(value).tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise ValueError(f"{type(value).__name__} does not go over the wire; send plain values and arrays")


def _called(hint: Any) -> str:
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        dict: "a map",
        list: "a list",
        bool: "true or false",
    }
    return names.get(hint, hint.__name__)
